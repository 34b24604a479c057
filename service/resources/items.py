"""Items: what has a name and a price, and may belong to a user."""

from typing import Annotated

from msgspec import Meta, Struct

from db.resources.items import ITEMS
from service.http.collection import Collection
from service.schemas import Id, Timestamp, Version

DOUBLE_MAX = 1.7976931348623157e308

ItemId = Annotated[Id, Meta(description="An item's number, never used again.")]
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
OwnerId = Annotated[
    Id | None,
    Meta(
        description="The id of the user who owns it; null: nobody. A writer's own id or null: what a writer creates"
        " without it is the writer's, and a replacement without it keeps the owner.",
        examples=[None],
    ),
]


class ItemCreate(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All of a new or an existing item."""

    name: Name
    price: Price
    in_stock: InStock = True
    owner_id: OwnerId = None


class ItemResponse(Struct, frozen=True, gc=False):  # its fields refer to nothing, so it is in no cycle
    """An item as it is stored."""

    id: ItemId
    name: Name
    price: Price
    in_stock: InStock
    owner_id: OwnerId
    version: Version
    created_at: Timestamp
    updated_at: Timestamp


COLLECTION = Collection(ITEMS, ItemCreate, ItemResponse, lambda context: context.items)
