"""Items: their Structs, and the handlers of /items, Struct in and Struct out."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict

from db.items import ITEMS
from db.tables.call import Call
from db.tables.table import Deletion, Patch, Row
from service.context import Context
from service.http.conditional import expected_version
from service.http.headers import IfMatch
from service.http.listing import Listing
from service.http.patches import given, patches
from service.http.response import Result
from service.schemas import BATCH, Id, IdsQuery, ListQuery, Timestamp, Version

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
OwnerId = Annotated[Id | None, Meta(description="The id of the user who owns it; null: nobody.", examples=[None])]


class ItemCreate(Struct, frozen=True, forbid_unknown_fields=True):
    """All of a new or an existing item."""

    name: Name
    price: Price
    in_stock: InStock = True
    owner_id: OwnerId = None


class ItemPatch(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A merge patch (RFC 7396): what is absent stays."""

    name: Name | UnsetType = UNSET
    price: Price | UnsetType = UNSET
    in_stock: InStock | UnsetType = UNSET
    owner_id: OwnerId | UnsetType = UNSET


class BatchItemPatch(ItemPatch, frozen=True):
    """A merge patch for one item of a batch; with a version, the item must still be at it."""

    id: ItemId
    version: Version | UnsetType = UNSET


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


class ItemQuery(ListQuery, frozen=True):
    """Which items to list."""

    order: Annotated[
        Literal["id", "-id", "name", "-name", "price", "-price", "created_at", "-created_at"],
        Meta(description="What to order by, `-` for descending; names by code point."),
    ] = "id"
    in_stock: Annotated[bool, Meta(description="Only items that are, or are not, in stock.")] | UnsetType = UNSET
    price_min: Annotated[Price, Meta(description="Only items of at least this price.")] | UnsetType = UNSET
    price_max: Annotated[Price, Meta(description="Only items of at most this price.")] | UnsetType = UNSET
    name_prefix: Annotated[Name, Meta(description="Only items whose name starts with this.")] | UnsetType = UNSET
    owner_id: Annotated[Id, Meta(description="Only items of the user with this id.")] | UnsetType = UNSET
    owned: Annotated[bool, Meta(description="Only items that have, or have not, an owner.")] | UnsetType = UNSET


ItemCreateBatch = Annotated[list[ItemCreate], BATCH]
ItemPatchBatch = Annotated[list[BatchItemPatch], BATCH]
LISTING = Listing("/items", ITEMS, ItemResponse)


async def create_items(
    context: Context, call: Call, body: ItemCreate | ItemCreateBatch
) -> ItemResponse | list[ItemResponse]:
    """Create an item, or a batch of them, all or nothing."""
    if isinstance(body, list):
        return await context.items.create_many(call, [_row(item) for item in body])
    return await context.items.create(call, _row(body))


async def list_items(context: Context, call: Call, query: ItemQuery) -> Result[list[ItemResponse]]:
    """List items."""
    return await LISTING.read(context.items, call, query)


async def update_items(context: Context, call: Call, body: ItemPatchBatch) -> list[ItemResponse]:
    """Update a batch of items, all or nothing."""
    return await context.items.update_many(call, patches(body))


async def delete_items(context: Context, call: Call, query: IdsQuery) -> list[ItemId]:
    """Delete a batch of items; unknown ids are left out of the response."""
    return await context.items.delete_many(call, query.ids)


async def read_item(context: Context, call: Call, id: ItemId) -> ItemResponse:
    """Read an item."""
    return await context.items.get(call, id)


async def replace_item(context: Context, call: Call, id: ItemId, if_match: IfMatch, body: ItemCreate) -> ItemResponse:
    """Replace all of an existing item."""
    call, version = await expected_version(context.items, call, id, if_match)
    return await context.items.update(call, Patch(id, version, asdict(body)))


async def update_item(context: Context, call: Call, id: ItemId, if_match: IfMatch, body: ItemPatch) -> ItemResponse:
    """Update some fields of an item."""
    call, version = await expected_version(context.items, call, id, if_match)
    return await context.items.update(call, Patch(id, version, given(body)))


async def delete_item(context: Context, call: Call, id: ItemId, if_match: IfMatch) -> None:
    """Delete an item."""
    call, version = await expected_version(context.items, call, id, if_match)
    await context.items.delete(call, Deletion(id, version))


def _row(item: ItemCreate) -> Row:
    return item.name, item.price + 0.0, item.in_stock, item.owner_id  # SQLite knows no -0.0, and would read 0.0
