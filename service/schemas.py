"""The Structs of requests and responses. Each constraint is here once: for decoding, the document and the tests."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

INT64_MAX = 2**63 - 1
DOUBLE_MAX = 1.7976931348623157e308
BATCH_LENGTH_MAX = 1000

ItemId = Annotated[int, Meta(ge=1, le=INT64_MAX, description="An item's number, never used again.", examples=[7])]
Version = Annotated[int, Meta(ge=1, le=INT64_MAX, description="Starts at 1; every change adds 1.", examples=[1])]
Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        pattern="^[^\\x00]*$",  # PostgreSQL keeps no NUL
        description="What the item is called, in 1 to 255 characters without NUL.",
        examples=["lamp"],
    ),
]
Price = Annotated[
    float,
    Meta(ge=0, le=DOUBLE_MAX, description="A finite price, a double on the wire and in the table.", examples=[9.5]),
]
InStock = Annotated[bool, Meta(description="Whether it can be bought now.", examples=[True])]
Timestamp = Annotated[
    datetime, Meta(tz=True, description="A timestamp, in UTC.", examples=["2026-01-31T12:00:00.000000Z"])
]


class ItemCreate(Struct, frozen=True, forbid_unknown_fields=True):
    """All of a new or an existing item."""

    name: Name
    price: Price
    in_stock: InStock = True


class ItemPatch(Struct, frozen=True, forbid_unknown_fields=True):
    """A merge patch (RFC 7396): what is absent stays."""

    name: Name | UnsetType = UNSET
    price: Price | UnsetType = UNSET
    in_stock: InStock | UnsetType = UNSET


class BatchItemPatch(Struct, frozen=True, forbid_unknown_fields=True):
    """A merge patch for one item of a batch; with a version, the item must still be at it."""

    id: ItemId
    version: Version | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    price: Price | UnsetType = UNSET
    in_stock: InStock | UnsetType = UNSET


class ItemResponse(Struct, frozen=True, gc=False):  # its fields refer to nothing, so it is in no cycle
    """An item as it is stored."""

    id: ItemId
    name: Name
    price: Price
    in_stock: InStock
    version: Version
    created_at: Timestamp
    updated_at: Timestamp


ItemCreateBatch = Annotated[list[ItemCreate], Meta(min_length=1, max_length=BATCH_LENGTH_MAX)]
ItemPatchBatch = Annotated[list[BatchItemPatch], Meta(min_length=1, max_length=BATCH_LENGTH_MAX)]
ItemIds = Annotated[
    tuple[ItemId, ...],
    Meta(
        min_length=1,
        max_length=BATCH_LENGTH_MAX,
        description="Ids, separated by commas, each of them once.",
        examples=[[1, 2, 3]],
        extra_json_schema={"uniqueItems": True},
    ),
]


class ItemQuery(Struct, frozen=True, kw_only=True):
    """Which items to list."""

    limit: Annotated[int, Meta(ge=1, le=1000, description="How many items a page has at most.")] = 100
    after: Annotated[str, Meta(description="The cursor from the `next` link of the page before.")] | UnsetType = UNSET
    order: Annotated[
        Literal["id", "-id", "name", "-name", "price", "-price", "created_at", "-created_at"],
        Meta(description="What to order by, `-` for descending; names by code point."),
    ] = "id"
    in_stock: Annotated[bool, Meta(description="Only items that are, or are not, in stock.")] | UnsetType = UNSET
    price_min: Annotated[Price, Meta(description="Only items of at least this price.")] | UnsetType = UNSET
    price_max: Annotated[Price, Meta(description="Only items of at most this price.")] | UnsetType = UNSET
    name_prefix: Annotated[Name, Meta(description="Only items whose name starts with this.")] | UnsetType = UNSET
    ids: (
        Annotated[
            ItemIds, Meta(description="These items, in this order; unknown ids are left out. Excludes all others.")
        ]
        | UnsetType
    ) = UNSET
    offset: Annotated[int, Meta(ge=0, le=10_000, description="How many items to skip; a cursor is faster.")] = 0
    count: Annotated[bool, Meta(description="Whether to count all items of the list in `X-Total-Count`.")] = False


class ItemIdsQuery(Struct, frozen=True, kw_only=True):
    """Which items to delete."""

    ids: ItemIds


class Health(Struct, frozen=True):
    """The state of the service, for a probe."""

    status: Literal["alive", "ready"]
