"""Tokens: who comes with one, when it was used, and that it goes with its user."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest

from db.batching.queue import Limits
from db.engines.engine import open_database
from db.errors import UnknownReference
from db.resources.tokens import TOKENS, TokenCaller, Tokens, UserCaller
from db.resources.users import USERS, Users
from db.tables.pagination import Query
from db.tables.storage import Storage
from db.tables.table import Deletion
from service.auth.commands import TokenRow
from service.resources.users import UserResponse
from tests.support.stores import CALL, patch

LIMIT_S = 60
UNKNOWN = 424242
NOON = datetime(2026, 1, 2, 12, 0, 0, 250000, tzinfo=UTC)
DIGESTS = ["a" * 64, "b" * 64, "c" * 64]


class Issued(NamedTuple):
    """Two users, and three tokens: the first two have one prefix, the last one is the second user's."""

    tokens: Tokens[TokenRow]
    users: Users[UserResponse]
    ada: int
    bob: int
    rows: list[TokenRow]


@pytest.fixture
async def issued(database_url: str) -> AsyncIterator[Issued]:
    database = open_database(database_url)
    limits = Limits(queue_wait_ms_max=LIMIT_S * 1000)
    storage = Storage(database, limits, coalesce=True, batch_connections=6, idempotency_keys_max=1000)
    async with asyncio.timeout(LIMIT_S), storage:
        users = Users(storage, USERS, UserResponse)
        people = [
            ("ada", "Ada.Ä@example.org", "Ada", "admin", True, "hash"),
            ("bob", "b@c", "Bob", "reader", False, None),
        ]
        ada, bob = [row.id for row in await users.create_many(CALL, people)]
        tokens = Tokens(storage, TOKENS, TokenRow)
        new = [
            (ada, "one", "itm_same", NOON, None, DIGESTS[0]),
            (ada, "two", "itm_same", None, None, DIGESTS[1]),
            (bob, "three", "itm_SAME", None, None, DIGESTS[2]),
        ]
        yield Issued(tokens, users, ada, bob, await tokens.create_many(CALL, new))
    await database.close()


async def used(issued: Issued) -> list[datetime | None]:
    rows = await issued.tokens.get_many(CALL, [row.id for row in issued.rows])
    assert [row._replace(last_used_at=None) for row in rows] == issued.rows  # its version and updated_at, too
    return [row.last_used_at for row in rows]


async def test_a_prefix_finds_its_tokens_with_their_users(issued: Issued) -> None:
    first, second, third = (row.id for row in issued.rows)
    asked = ["itm_same", "itm_SAME", "itm_none", "itm_same", "%", "' OR 1=1 --"]
    same = [
        TokenCaller(first, DIGESTS[0], NOON, issued.ada, "admin", is_active=True),
        TokenCaller(second, DIGESTS[1], None, issued.ada, "admin", is_active=True),
    ]
    other = [TokenCaller(third, DIGESTS[2], None, issued.bob, "reader", is_active=False)]
    found = await asyncio.gather(*map(issued.tokens.find_callers, asked))
    assert found == [same, other, [], same, [], []]


async def test_a_token_that_is_deleted_and_a_user_that_is_changed_are_found_as_they_are(issued: Issued) -> None:
    await issued.tokens.delete(CALL, Deletion(issued.rows[0].id))
    await issued.users.update(CALL, patch(issued.ada, role="writer", is_active=False))
    [found] = await issued.tokens.find_callers("itm_same")
    assert (found.token_id, found.role, found.is_active) == (issued.rows[1].id, "writer", False)


async def test_a_user_is_found_by_username_or_by_email_in_any_case(issued: Issued) -> None:
    ada = UserCaller(issued.ada, "admin", is_active=True, password_hash="hash")
    bob = UserCaller(issued.bob, "reader", is_active=False, password_hash=None)
    asked = {
        "ada": ada,
        "ADA": None,
        "ada.ä@EXAMPLE.org": ada,
        "bob": bob,
        "B@C": bob,
        "": None,
        "a\0": None,
        "cat": None,
    }
    found = await asyncio.gather(*map(issued.tokens.find_user, asked))
    assert dict(zip(asked, found, strict=True)) == asked


async def test_the_last_use_of_many_tokens_is_recorded_and_never_goes_back(issued: Issued) -> None:
    first, second, third = (row.id for row in issued.rows)
    await issued.tokens.record_use(CALL, {})
    await issued.tokens.record_use(CALL, {third: NOON, first: NOON, UNKNOWN: NOON})
    assert await used(issued) == [NOON, None, NOON]
    later, earlier = NOON + timedelta(microseconds=1), NOON - timedelta(days=1)
    await issued.tokens.record_use(CALL, {first: later, second: earlier, third: earlier})
    assert await used(issued) == [later, earlier, NOON]


async def test_concurrent_records_of_the_same_tokens_leave_the_latest(issued: Issued) -> None:
    ids = [row.id for row in issued.rows]
    times = [NOON + timedelta(seconds=number) for number in range(50)]
    records = [dict.fromkeys(ids[:: -1 if number % 2 else 1], time) for number, time in enumerate(times)]
    await asyncio.gather(*(issued.tokens.record_use(CALL, record) for record in reversed(records)))
    assert await used(issued) == [times[-1]] * 3


async def test_tokens_go_with_their_user_and_do_not_guard_them(issued: Issued) -> None:
    await issued.users.delete(CALL, Deletion(issued.ada))
    assert [row.name for row in (await issued.tokens.page(CALL, Query())).rows] == ["three"]
    assert await issued.tokens.find_callers("itm_same") == []


async def test_a_list_has_the_tokens_of_one_user_and_a_token_needs_its_user(issued: Issued) -> None:
    page = await issued.tokens.page(CALL, Query(filters=(("user_id", issued.ada),)))
    assert page.rows == issued.rows[:2]
    with pytest.raises(UnknownReference) as refused:
        await issued.tokens.create(CALL, (UNKNOWN, "four", "itm_four", None, None, DIGESTS[0]))
    assert refused.value.paths == (("user_id",),)
