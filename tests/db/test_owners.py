"""A write for one user: rows of others stay as they are, whoever writes them, in whatever batch, at whatever moment."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from secrets import token_bytes
from typing import Any, NamedTuple

import pytest

from db.batching.batch import TOKEN_BYTES
from db.batching.queue import Limits
from db.engines.engine import open_database
from db.errors import DatabaseError, NotFound, NotOwner, UnknownReference, VersionMismatch
from db.resources.items import ITEMS
from db.resources.users import USERS, Users
from db.tables.call import Call
from db.tables.storage import Storage
from db.tables.store import Store
from db.tables.table import Deletion
from db.transactions.idempotency import IdempotencyKey, ReplayedResponse
from service.resources.users import UserResponse
from tests.support.stores import CALL, NewRow, Row, patch

LIMIT_S = 120
UNKNOWN = 424242


class Owned(NamedTuple):
    """Two workers' items, and users who own some: `mine` of `me`, `theirs` of `them`, `free` of nobody."""

    items: Store[Row]
    others: Store[Row]
    users: Users[UserResponse]
    me: int
    them: int
    mine: Row
    theirs: Row
    free: Row


@pytest.fixture
async def owned(database_url: str) -> AsyncIterator[Owned]:
    async with AsyncExitStack() as opened, asyncio.timeout(LIMIT_S):
        storages = []
        for _ in range(2):
            database = open_database(database_url)
            opened.push_async_callback(database.close)
            limits = Limits(queue_wait_ms_max=LIMIT_S * 1000)  # a busy machine must not look like a busy service
            storage = Storage(database, limits, coalesce=True, batch_connections=6, idempotency_keys_max=1000)
            storages.append(await opened.enter_async_context(storage))
        users = Users(storages[0], USERS, UserResponse)
        rows = [(name, f"{name}@example.org", name, "writer", True, None) for name in ("ada", "bob")]
        me, them = [row.id for row in await users.create_many(CALL, rows)]
        items, others = [Store(storage, ITEMS, Row) for storage in storages]
        new = [NewRow("lamp", 1.0, in_stock=True, owner_id=owner) for owner in (me, them, None)]
        yield Owned(items, others, users, me, them, *await items.create_many(CALL, new))


async def outcome(request: Awaitable[Any]) -> Any:
    try:
        return await request
    except DatabaseError as error:
        return type(error)


async def rows(owned: Owned) -> list[Row]:
    return await owned.items.get_many(CALL, [owned.mine.id, owned.theirs.id, owned.free.id])


async def test_a_user_writes_their_own_items_and_those_of_nobody_alone(owned: Owned) -> None:
    call = Call(owner=owned.me)
    updated = await asyncio.gather(
        *(outcome(owned.items.update(call, patch(row.id, price=2.0))) for row in (owned.mine, owned.theirs, owned.free))
    )
    assert [row if row is NotOwner else (row.price, row.owner_id) for row in updated] == [
        (2.0, owned.me),
        NotOwner,
        (2.0, None),  # and it is still nobody's
    ]
    deletions = [Deletion(row.id) for row in (owned.mine, owned.theirs, owned.free)]
    deleted = await asyncio.gather(*(outcome(owned.items.delete(call, deletion)) for deletion in deletions))
    assert deleted == [None, NotOwner, None]
    assert await rows(owned) == [owned.theirs]


async def test_calls_for_several_users_and_for_every_row_share_a_batch(owned: Owned) -> None:
    calls = [Call(owner=owned.me), Call(owner=owned.them), CALL]
    written = await asyncio.gather(
        *(outcome(owned.items.update(call, patch(owned.theirs.id, price=2.0))) for call in calls),
        outcome(owned.items.update(calls[0], patch(owned.free.id, name="mine?", owner_id=None))),
    )
    assert written[0] is NotOwner
    assert [row.version for row in written[1:]] == [2, 3, 2]


@pytest.mark.parametrize("owner_id", [None, 1, 2])
async def test_an_unknown_id_comes_before_a_foreign_one_and_that_before_a_version(
    owned: Owned, owner_id: int | None
) -> None:
    """A patch of the owner takes the guarded way, another one does not."""
    call, values = Call(owner=owned.me), {"price": 2.0} if owner_id is None else {"owner_id": owner_id}

    async def written(id: int, version: int | None) -> Any:
        return await outcome(owned.items.update(call, patch(id, version, **values)))

    assert await written(UNKNOWN, 7) is NotFound
    assert await written(owned.theirs.id, 7) is NotOwner
    assert await written(owned.theirs.id, 1) is NotOwner
    assert await written(owned.mine.id, 7) is VersionMismatch
    assert (await written(owned.mine.id, 1)).version == 2
    assert await outcome(owned.items.delete(call, Deletion(UNKNOWN, 7))) is NotFound
    assert await outcome(owned.items.delete(call, Deletion(owned.theirs.id, 7))) is NotOwner
    assert await outcome(owned.items.delete(call, Deletion(owned.free.id, 7))) is VersionMismatch


async def test_a_foreign_item_is_refused_before_an_unknown_reference(owned: Owned) -> None:
    call = Call(owner=owned.me)
    assert await outcome(owned.items.update(call, patch(owned.theirs.id, owner_id=UNKNOWN))) is NotOwner
    assert await outcome(owned.items.update(call, patch(owned.mine.id, owner_id=UNKNOWN))) is UnknownReference


async def test_a_batch_with_a_foreign_item_changes_nothing_and_has_its_place(owned: Owned) -> None:
    call, before = Call(owner=owned.me), await rows(owned)
    patches = [patch(row.id, price=2.0) for row in (owned.mine, owned.theirs, owned.free)]
    with pytest.raises(NotOwner) as refused:
        await owned.items.update_many(call, patches)
    assert (refused.value.ids, refused.value.paths) == ((owned.theirs.id,), ((1,),))
    with pytest.raises(NotOwner) as refused:
        await owned.items.delete_many(call, [UNKNOWN, owned.mine.id, owned.theirs.id])
    assert (refused.value.ids, refused.value.paths) == ((owned.theirs.id,), ((2,),))
    assert await rows(owned) == before
    with pytest.raises(NotFound):
        await owned.items.update_many(call, [*patches, patch(UNKNOWN)])
    assert await owned.items.delete_many(call, [UNKNOWN, owned.mine.id, owned.free.id]) == [
        owned.mine.id,
        owned.free.id,
    ]


async def test_an_empty_patch_of_a_foreign_item_is_refused(owned: Owned) -> None:
    assert await outcome(owned.items.update(Call(owner=owned.me), patch(owned.theirs.id))) is NotOwner


async def test_a_table_without_owners_is_written_as_ever(owned: Owned) -> None:
    user = await owned.users.update(Call(owner=owned.me), patch(owned.them, name="Bob"))
    assert user.name == "Bob"
    assert await owned.users.delete_many(Call(owner=owned.me), [UNKNOWN]) == []


async def test_a_keyed_write_is_refused_for_a_foreign_item_and_replayed_for_its_owner(owned: Owned) -> None:
    def call(scope: str) -> Call:
        return Call(owner=owned.me, idempotency=IdempotencyKey(scope, "f", lambda _result: scope.encode()))

    given = patch(owned.mine.id, owner_id=owned.them)
    assert (await owned.items.update(call("1"), given)).owner_id == owned.them
    with pytest.raises(ReplayedResponse) as replayed:
        await owned.items.update(call("1"), given)
    assert replayed.value.response == b"1"
    with pytest.raises(NotOwner):
        await owned.items.update(call("2"), patch(owned.theirs.id, price=2.0))
    with pytest.raises(NotOwner):
        await owned.items.delete(call("3"), Deletion(owned.theirs.id))
    with pytest.raises(NotOwner):
        await owned.items.delete_many(call("4"), [owned.free.id, owned.theirs.id])
    assert [row.version for row in await rows(owned)] == [2, 1, 1]


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_a_write_that_gives_its_item_away_happens_once(owned: Owned) -> None:
    """A repeat, whose commit record is there, finds an item that is no longer the caller's."""
    statements, token = owned.items._statements, token_bytes(TOKEN_BYTES)
    given = [patch(row.id, owner_id=owned.them)._replace(owner=owned.me) for row in (owned.mine, owned.theirs)]
    async with owned.items._database.connect(generic_plan=True) as connection:
        for _ in range(2):
            row, refused = await statements.update(connection, given, token)
            assert isinstance(row, Row)
            assert (row.owner_id, row.version) == (owned.them, 2)
            assert isinstance(refused, NotOwner)


async def test_no_write_of_an_old_owner_lands_after_the_change_was_acknowledged(owned: Owned) -> None:
    """Two workers: one gives an item to and fro, the other writes for one user; each round checks what came last."""
    sides, id = (owned.me, owned.them), owned.mine.id
    for number in range(1000):
        old, new = sides[number % 2], sides[1 - number % 2]
        given = asyncio.ensure_future(owned.items.update(CALL, patch(id, name=f"given {number}", owner_id=new)))
        writes = [
            outcome(owned.others.update(Call(owner=old), patch(id, price=number + share)))
            for share in (0.25, 0.5, 0.75)
        ]
        *results, change = await asyncio.gather(*writes, given)
        landed = [row for row in results if row is not NotOwner]
        assert all(row.version < change.version and row.owner_id == old for row in landed), (results, change)
        late = await outcome(owned.others.update(Call(owner=old), patch(id, price=-0.0)))
        assert late is NotOwner
        assert await owned.items.get(CALL, id) == change
