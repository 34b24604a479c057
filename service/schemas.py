"""The types and Structs that every resource uses; each constraint is written once, for requests and the document."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

INT64_MAX = 2**63 - 1
BATCH_LENGTH_MAX = 1000
BATCH = Meta(min_length=1, max_length=BATCH_LENGTH_MAX)

Id = Annotated[int, Meta(ge=1, le=INT64_MAX, description="A number of its own, never used again.", examples=[7])]
Version = Annotated[int, Meta(ge=1, le=INT64_MAX, description="Starts at 1; every change adds 1.", examples=[1])]
Timestamp = Annotated[
    datetime,
    Meta(
        tz=True,
        description="A timestamp, in UTC; in JSON its seconds have six decimals.",
        examples=["2026-01-31T12:00:00.000000Z"],
    ),
]
Ids = Annotated[
    tuple[Id, ...],
    BATCH,
    Meta(
        description="Ids, each of them once: separated by commas, or a parameter for each.",
        examples=[[1, 2, 3]],
        extra_json_schema={"uniqueItems": True},
    ),
]


class PageQuery(Struct, frozen=True, kw_only=True):
    """Which page to list."""

    order: str
    limit: Annotated[int, Meta(ge=1, le=1000, description="How many a page has at most.")] = 100
    after: Annotated[str, Meta(description="The cursor from the `next` link of the page before.")] | UnsetType = UNSET
    offset: Annotated[int, Meta(ge=0, le=10_000, description="How many to skip; a cursor is faster.")] = 0
    count: Annotated[bool, Meta(description="Whether to count the whole list in `X-Total-Count`.")] = False


class ListQuery(PageQuery, frozen=True, kw_only=True):
    """Which page or which rows to list; a resource's own query has its orders and its filters before these."""

    ids: (
        Annotated[
            Ids, Meta(description="These ids, in this order, as `ids=1,2` or `ids=1&ids=2`; excludes other parameters.")
        ]
        | UnsetType
    ) = UNSET


class IdsQuery(Struct, frozen=True):
    """Which ids to delete."""

    ids: Ids


class Health(Struct, frozen=True):
    """The state of the service, for a probe."""

    status: Literal["alive", "ready"]
