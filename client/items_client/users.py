"""Users: who own items, and may call the service, by their role."""

from collections.abc import AsyncIterator
from typing import Any, Literal, TypedDict, Unpack

import msgspec

from .messages import Sender
from .resource import Page, Resource, address, decoded
from .structs import Role, User, UserCreate, UserPatch, UserWithItems

PAGE_SIZE = 100
UserOrder = Literal["id", "-id", "username", "-username", "email", "-email", "created_at", "-created_at"]
WITH_ITEMS = msgspec.msgpack.Decoder(UserWithItems)


class UserChanges(TypedDict, total=False):
    """The fields of a user that are to change."""

    username: str
    email: str
    name: str
    role: Role
    is_active: bool
    password: str | None


class UserFilters(TypedDict, total=False):
    """Which users are listed: those for which all of it holds."""

    username: str
    email: str
    role: Role
    is_active: bool


class Users(Resource[User, UserCreate, UserPatch, UserChanges]):
    """The users."""

    def __init__(self, sender: Sender, timeout_s: float) -> None:
        super().__init__(sender, "users", User, timeout_s)

    async def get_with_items(self, id: int, *, timeout: float | None = None) -> UserWithItems:
        """Return a user with the first 100 items that they own. Raises NotFound."""
        return decoded(WITH_ITEMS, await self._read(self._deadline(timeout), id, "include=items"))

    async def update(
        self,
        user: User | int,
        /,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        **changes: Unpack[UserChanges],
    ) -> User:
        """Change fields of a user; of one that was read only while it is at that version. Raises VersionMismatch."""
        return await self._update(user, changes, timeout, idempotency_key)

    async def delete_and_reassign(
        self,
        user: User | int,
        new_owner_id: int,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """Delete a user, whose items another one owns then."""
        fields: dict[str, Any] = {**address(user), "query": f"reassign_to={new_owner_id}"}
        await self._write("DELETE", timeout, idempotency_key, **fields)

    async def list(
        self,
        *,
        order: UserOrder = "id",
        page_size: int = PAGE_SIZE,
        timeout: float | None = None,
        **filters: Unpack[UserFilters],
    ) -> AsyncIterator[User]:
        """Yield all users for which the filters hold, in order; the timeout is that of each page of them."""
        async for page in self.pages(order=order, page_size=page_size, timeout=timeout, **filters):
            for user in page:
                yield user

    def pages(
        self,
        *,
        order: UserOrder = "id",
        page_size: int = PAGE_SIZE,
        timeout: float | None = None,
        **filters: Unpack[UserFilters],
    ) -> AsyncIterator[Page[User]]:
        """Yield the same in lists of up to `page_size`, 1,000 at most."""
        return self._pages({"limit": page_size, "order": order, **filters}, timeout)
