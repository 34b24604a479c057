"""The methods of the resources for programs without an event loop. A test compares their signatures."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar, Unpack

from .items import PAGE_SIZE, ItemChanges, ItemFilters, ItemOrder, Items
from .resource import C, M, P, Resource, T
from .structs import Item, ItemCreate, ItemPatch, User, UserCreate, UserPatch, UserWithItems
from .users import UserChanges, UserFilters, UserOrder, Users

R = TypeVar("R")


class Runner(Protocol):
    """What runs coroutines to their end."""

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Return the result of a coroutine."""

    def iterate(self, pages: AsyncIterator[list[R]]) -> Iterator[R]:
        """Yield the members of pages."""


class SyncResource(Generic[T, C, P, M]):
    """A collection of rows, as Resource."""

    def __init__(self, resource: Resource[T, C, P, M], runner: Runner) -> None:
        self._resource = resource
        self._runner = runner

    def get(self, id: int, *, timeout: float | None = None) -> T:
        """Return a row. Raises NotFound."""
        return self._runner.run(self._resource.get(id, timeout=timeout))

    def get_many(self, ids: Sequence[int], *, timeout: float | None = None) -> list[T]:
        """Return the rows with up to 1,000 ids, in their order; those that do not exist are left out."""
        return self._runner.run(self._resource.get_many(ids, timeout=timeout))

    def create(self, row: C, *, timeout: float | None = None, idempotency_key: str | None = None) -> T:
        """Create a row."""
        return self._runner.run(self._resource.create(row, timeout=timeout, idempotency_key=idempotency_key))

    def create_many(
        self, rows: Sequence[C], *, timeout: float | None = None, idempotency_key: str | None = None
    ) -> list[T]:
        """Create up to 1,000 rows, all or none, and return them in the same order."""
        return self._runner.run(self._resource.create_many(rows, timeout=timeout, idempotency_key=idempotency_key))

    def replace(self, row: T | int, by: C, *, timeout: float | None = None, idempotency_key: str | None = None) -> T:
        """Replace all of a row; one that was read only while it is at that version. Raises VersionMismatch."""
        return self._runner.run(self._resource.replace(row, by, timeout=timeout, idempotency_key=idempotency_key))

    def update_many(
        self, patches: Sequence[P], *, timeout: float | None = None, idempotency_key: str | None = None
    ) -> list[T]:
        """Change up to 1,000 rows, all or none, and return them in the same order."""
        return self._runner.run(self._resource.update_many(patches, timeout=timeout, idempotency_key=idempotency_key))

    def delete(self, row: T | int, *, timeout: float | None = None, idempotency_key: str | None = None) -> None:
        """Delete a row; one that was read only while it is at that version. Raises VersionMismatch."""
        self._runner.run(self._resource.delete(row, timeout=timeout, idempotency_key=idempotency_key))

    def delete_many(
        self, ids: Sequence[int], *, timeout: float | None = None, idempotency_key: str | None = None
    ) -> list[int]:
        """Delete the rows with up to 1,000 ids, and return the ids of those that there were."""
        return self._runner.run(self._resource.delete_many(ids, timeout=timeout, idempotency_key=idempotency_key))

    def read_modify_write(self, id: int, change: Callable[[T], M], *, timeout: float | None = None) -> T:
        """Read a row, write the changes that a function makes of it, and do so again if another write was faster."""
        return self._runner.run(self._resource.read_modify_write(id, change, timeout=timeout))


class SyncItems(SyncResource[Item, ItemCreate, ItemPatch, ItemChanges]):
    """The items."""

    def __init__(self, items: Items, runner: Runner) -> None:
        super().__init__(items, runner)
        self._items = items

    def update(
        self,
        item: Item | int,
        /,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        **changes: Unpack[ItemChanges],
    ) -> Item:
        """Change fields of an item; of one that was read only while it is at that version. Raises VersionMismatch."""
        return self._runner.run(self._items.update(item, timeout=timeout, idempotency_key=idempotency_key, **changes))

    def list(
        self,
        *,
        order: ItemOrder = "id",
        page_size: int = PAGE_SIZE,
        timeout: float | None = None,
        **filters: Unpack[ItemFilters],
    ) -> Iterator[Item]:
        """Yield all items for which the filters hold, in order; the timeout is that of each page of them."""
        pages = self._items.pages(order=order, page_size=page_size, timeout=timeout, **filters)
        return self._runner.iterate(pages)


class SyncUsers(SyncResource[User, UserCreate, UserPatch, UserChanges]):
    """The users."""

    def __init__(self, users: Users, runner: Runner) -> None:
        super().__init__(users, runner)
        self._users = users

    def get_with_items(self, id: int, *, timeout: float | None = None) -> UserWithItems:
        """Return a user with the first 100 items that they own. Raises NotFound."""
        return self._runner.run(self._users.get_with_items(id, timeout=timeout))

    def update(
        self,
        user: User | int,
        /,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        **changes: Unpack[UserChanges],
    ) -> User:
        """Change fields of a user; of one that was read only while it is at that version. Raises VersionMismatch."""
        return self._runner.run(self._users.update(user, timeout=timeout, idempotency_key=idempotency_key, **changes))

    def delete_and_reassign(
        self,
        user: User | int,
        new_owner_id: int,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """Delete a user, whose items another one owns then."""
        self._runner.run(
            self._users.delete_and_reassign(user, new_owner_id, timeout=timeout, idempotency_key=idempotency_key)
        )

    def list(
        self,
        *,
        order: UserOrder = "id",
        page_size: int = PAGE_SIZE,
        timeout: float | None = None,
        **filters: Unpack[UserFilters],
    ) -> Iterator[User]:
        """Yield all users for which the filters hold, in order; the timeout is that of each page of them."""
        pages = self._users.pages(order=order, page_size=page_size, timeout=timeout, **filters)
        return self._runner.iterate(pages)
