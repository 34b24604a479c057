"""Items: what has a name and a price, and may belong to a user."""

from collections.abc import AsyncIterator
from typing import Literal, TypedDict, Unpack

from .messages import Sender
from .resource import Page, Resource
from .structs import Item, ItemCreate, ItemPatch

PAGE_SIZE = 100
ItemOrder = Literal["id", "-id", "name", "-name", "price", "-price", "created_at", "-created_at"]


class ItemChanges(TypedDict, total=False):
    """The fields of an item that are to change."""

    name: str
    price: float
    in_stock: bool
    owner_id: int | None


class ItemFilters(TypedDict, total=False):
    """Which items are listed: those for which all of it holds."""

    in_stock: bool
    price_min: float
    price_max: float
    name_prefix: str
    owner_id: int
    owned: bool


class Items(Resource[Item, ItemCreate, ItemPatch, ItemChanges]):
    """The items."""

    def __init__(self, sender: Sender, timeout_s: float) -> None:
        super().__init__(sender, "items", Item, timeout_s)

    async def update(
        self,
        item: Item | int,
        /,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        **changes: Unpack[ItemChanges],
    ) -> Item:
        """Change fields of an item; of one that was read only while it is at that version. Raises VersionMismatch."""
        return await self._update(item, changes, timeout, idempotency_key)

    async def list(
        self,
        *,
        order: ItemOrder = "id",
        page_size: int = PAGE_SIZE,
        timeout: float | None = None,
        **filters: Unpack[ItemFilters],
    ) -> AsyncIterator[Item]:
        """Yield all items for which the filters hold, in order; the timeout is that of each page of them."""
        async for page in self.pages(order=order, page_size=page_size, timeout=timeout, **filters):
            for item in page:
                yield item

    def pages(
        self,
        *,
        order: ItemOrder = "id",
        page_size: int = PAGE_SIZE,
        timeout: float | None = None,
        **filters: Unpack[ItemFilters],
    ) -> AsyncIterator[Page[Item]]:
        """Yield the same in lists of up to `page_size`, 1,000 at most."""
        return self._pages({"limit": page_size, "order": order, **filters}, timeout)
