"""Handlers for /items: Struct in, Struct out."""

from typing import cast
from urllib.parse import urlencode

from msgspec import UNSET

from db.errors import VersionMismatch
from db.items import ItemDeletion, ItemRow, Items, ItemUpdate
from db.tables.pagination import Order, Page, Query
from service.context import Context
from service.http import cursors
from service.http.headers import IfMatch
from service.http.operation import Result
from service.http.problems import INVALID_BODY, INVALID_QUERY, FieldError, ProblemError
from service.http.response import Header
from service.schemas import (
    BatchItemPatch,
    ItemCreate,
    ItemCreateBatch,
    ItemId,
    ItemIdsQuery,
    ItemPatch,
    ItemPatchBatch,
    ItemQuery,
    ItemResponse,
)


async def create_items(context: Context, body: ItemCreate | ItemCreateBatch) -> ItemResponse | list[ItemResponse]:
    """Create an item, or a batch of them, all or nothing."""
    if isinstance(body, list):
        return await context.items.create_many([_new(item) for item in body])
    return await context.items.create(_new(body))


async def list_items(context: Context, query: ItemQuery) -> Result[list[ItemResponse]]:
    """List items."""
    if query.ids is not UNSET:
        if query != ItemQuery(ids=query.ids):
            raise ProblemError(INVALID_QUERY, "The parameter ids excludes all others.")
        return Result(await context.items.get_many(query.ids))
    page = await context.items.page(_selection(query))
    if "headers" not in page.encoded:
        page.encoded["headers"] = _page_headers(page, query)
    return Result(page.items, page.encoded["headers"], page.encoded)


async def update_items(context: Context, body: ItemPatchBatch) -> list[ItemResponse]:
    """Update a batch of items, all or nothing."""
    first = {patch.id: index for index, patch in reversed(list(enumerate(body)))}
    errors = [
        FieldError(f"/{index}/id", "Expected each id once")
        for index, patch in enumerate(body)
        if first[patch.id] != index
    ]
    if errors:
        raise ProblemError(INVALID_BODY, "A batch holds each item once.", errors=errors)
    return await context.items.update_many([_patched(patch.id, patch.version or None, patch) for patch in body])


async def delete_items(context: Context, query: ItemIdsQuery) -> list[ItemId]:
    """Delete a batch of items; unknown ids are left out of the response."""
    return await context.items.delete_many(query.ids)


async def read_item(context: Context, id: ItemId) -> ItemResponse:
    """Read an item."""
    return await context.items.get(id)


async def replace_item(context: Context, id: ItemId, if_match: IfMatch, body: ItemCreate) -> ItemResponse:
    """Replace all of an existing item."""
    items, version = await _items_and_version(context, id, if_match)
    return await items.update(ItemUpdate(id, version, body.name, body.price, body.in_stock))


async def update_item(context: Context, id: ItemId, if_match: IfMatch, body: ItemPatch) -> ItemResponse:
    """Update some fields of an item."""
    items, version = await _items_and_version(context, id, if_match)
    return await items.update(_patched(id, version, body))


async def delete_item(context: Context, id: ItemId, if_match: IfMatch) -> None:
    """Delete an item."""
    items, version = await _items_and_version(context, id, if_match)
    await items.delete(ItemDeletion(id, version))


def _new(item: ItemCreate) -> ItemRow:
    return ItemRow(item.name, item.price + 0.0, item.in_stock)  # SQLite knows no -0.0, and would read it otherwise


def _patched(id: int, version: int | None, patch: ItemPatch | BatchItemPatch) -> ItemUpdate:
    return ItemUpdate(
        id,
        version,
        None if patch.name is UNSET else patch.name,
        None if patch.price is UNSET else patch.price,
        None if patch.in_stock is UNSET else patch.in_stock,
    )


async def _items_and_version(context: Context, id: int, if_match: IfMatch) -> tuple[Items[ItemResponse], int | None]:
    """Return the store to write with, and the version that the write expects. Raises VersionMismatch.

    With several versions in If-Match the item is read first; both steps then have one deadline.
    """
    if if_match is None:
        return context.items, None
    if len(if_match) == 1:
        return context.items, next(iter(if_match))
    items = context.items.until()
    current = await items.get(id)
    if current.version not in if_match:
        raise VersionMismatch([id])
    return items, current.version


def _selection(query: ItemQuery) -> Query:
    return Query(
        order=cast("Order", query.order.removeprefix("-")),
        descending=query.order.startswith("-"),
        after=None if query.after is UNSET else cursors.read(query.order, query.after),
        limit=query.limit,
        offset=query.offset,
        in_stock=None if query.in_stock is UNSET else query.in_stock,
        price_min=None if query.price_min is UNSET else query.price_min,
        price_max=None if query.price_max is UNSET else query.price_max,
        name_prefix=None if query.name_prefix is UNSET else query.name_prefix,
        count=query.count,
    )


FILTERS = ("in_stock", "price_min", "price_max", "name_prefix")


def _page_headers(page: Page[ItemResponse], query: ItemQuery) -> list[Header]:
    headers: list[Header] = []
    if page.more:
        given = {name: getattr(query, name) for name in ("limit", "order", *FILTERS)}
        given["after"] = cursors.write(query.order, page.items[-1])
        written = {name: _text(value) for name, value in given.items() if value is not UNSET}
        headers.append((b"link", b'</items?%s>; rel="next"' % urlencode(written).encode()))
    if page.total is not None:
        headers.append((b"x-total-count", b"%d" % page.total))
    return headers


def _text(value: object) -> str:
    """Return the text of a query parameter."""
    return str(value).lower() if isinstance(value, bool) else str(value)
