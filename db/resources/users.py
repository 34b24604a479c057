"""Users: who owns items, and the verbs that only they have."""

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased, defer, selectinload

from db.errors import NotFound, TimedOut, UnknownReference, VersionMismatch
from db.models import Base, Item, User
from db.resources.items import ITEMS
from db.tables.audited_store import AuditedStore, Identified
from db.tables.call import Call
from db.tables.filters import equals
from db.tables.refusals import all_or_nothing
from db.tables.table import Deletion, Table
from db.transactions.runner import run_in_transaction
from db.types import utc_now

T = TypeVar("T", bound=Identified)
U = TypeVar("U")

USERS = Table(
    User,
    noun="user",
    fields=("username", "email", "name", "role", "is_active"),
    write_only=("password_hash",),
    orders=("id", "username", "email", "created_at"),
    filters={name: equals(name) for name in ("username", "email", "role", "is_active")},
    audited=("role", "is_active"),
)

EMBEDDED_ITEMS_MAX = 100
REASSIGNED_ROWS = 1000  # in one statement


class Users(AuditedStore[T]):
    """The store of users."""

    async def get_with_items(self, call: Call, id: int, make_item: Callable[..., U]) -> tuple[T, list[U]]:
        """Return a user and the first EMBEDDED_ITEMS_MAX of their items, by id. Raise NotFound."""

        async def work(session: AsyncSession) -> tuple[T, list[U]]:
            # Here, as it takes a millisecond that nobody should cost who is refused.
            first = aliased(Item)
            ids = select(first.id).where(first.owner_id == id).order_by(first.id).limit(EMBEDDED_ITEMS_MAX)
            found = select(User).where(User.id == id)
            found = found.options(defer(User.password_hash), selectinload(User.items.and_(Item.id.in_(ids))))
            user = await session.scalar(found)
            if user is None:
                raise NotFound([id], USERS.noun)
            items = [make_item(*_values(item, ITEMS)) for item in user.items]
            return self._make_row(*_values(user, USERS)), items

        remaining_s = self.remaining_s(call)
        return await run_in_transaction(self._database, work, remaining_s, writes=False, caller=call.caller)

    async def delete_and_reassign(self, call: Call, deletion: Deletion, owner_id: int) -> None:
        """Delete a user and make another one the owner of all their items, in one transaction.

        Raise NotFound or VersionMismatch, or UnknownReference to `reassign_to` if there is no such other user.
        """
        call = self.bounded(call)

        async def work(session: AsyncSession) -> None:
            await self._lock(session, deletion, owner_id)
            while await self._reassign(session, deletion.id, owner_id) == REASSIGNED_ROWS:
                if self.remaining_s(call) < 0:
                    raise TimedOut("the items were not reassigned in time")
            all_or_nothing(await self._apply(session, call, self._statements.delete, [deletion]))

        await self.in_transaction(call, work)

    async def rehash(self, call: Call, id: int, before: str, after: str) -> None:
        """Store another hash of the same password, unless the password was changed meanwhile.

        It is no change of the user: the version and `updated_at` stay, and the audit log does not have it.
        """
        changed = update(User).where(User.id == id, User.password_hash == before).values(password_hash=after)

        async def work(session: AsyncSession) -> None:
            await session.execute(changed, execution_options={"synchronize_session": False})

        await run_in_transaction(self._database, work, self.remaining_s(call), caller=call.caller)

    async def _lock(self, session: AsyncSession, deletion: Deletion, owner_id: int) -> None:
        """Lock the user, so that nobody gives them another item, and the other one, so that nobody deletes them.

        They are locked in the order of their ids, so that two who take over from each other do not deadlock. Raise what
        `delete_and_reassign` raises.
        """
        versions: dict[int, int | None] = {}
        for id in sorted({deletion.id, owner_id}):
            stays = id != deletion.id
            found = select(User.version).where(User.id == id).with_for_update(read=stays, key_share=stays)
            versions[id] = await session.scalar(found)
        if versions[deletion.id] is None:
            raise NotFound([deletion.id], USERS.noun)
        if deletion.version not in {None, versions[deletion.id]}:
            raise VersionMismatch([deletion.id], USERS.noun)
        if owner_id == deletion.id or versions[owner_id] is None:
            raise UnknownReference([("reassign_to",)], USERS.noun)

    async def _reassign(self, session: AsyncSession, from_id: int, to_id: int) -> int:
        """Make a user the owner of the next of another's items; return how many they were."""
        step = select(Item.id).where(Item.owner_id == from_id).order_by(Item.id).limit(REASSIGNED_ROWS)
        values = {"owner_id": to_id, "version": Item.version + 1, "updated_at": utc_now()}
        moved = update(Item).where(Item.id.in_(step.with_for_update())).values(values).returning(Item.id)
        return len((await session.scalars(moved, execution_options={"synchronize_session": False})).all())


def _values(row: Base, table: Table) -> list[Any]:
    return [getattr(row, column.name) for column in table.columns]
