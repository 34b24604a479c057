"""The verbs of a table, asked of a database directly: each member of a batch has a result of its own."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime
from secrets import token_bytes
from typing import Any, NamedTuple

import pytest

from db.batching.batch import TOKEN_BYTES
from db.engines.database import Connection, Database
from db.engines.engine import open_database
from db.errors import (
    AlreadyExists,
    DatabaseError,
    NotFound,
    OutcomeUnknown,
    StillReferenced,
    UnknownReference,
    VersionMismatch,
)
from db.resources.items import ITEMS
from db.resources.users import USERS
from db.session import transaction
from db.tables.filters import at_least, is_set, starts_with
from db.tables.pagination import Query
from db.tables.refusals import all_or_nothing
from db.tables.statements import TableStatements
from db.tables.table import Deletion, Patch
from db.transactions.idempotency import SessionConnection
from tests.support.stores import NewRow, Row, patch

on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
NOBODY = 424242


class UserRow(NamedTuple):
    """A user, in the order of its columns."""

    id: int
    username: str
    email: str
    name: str
    role: str
    is_active: bool
    version: int
    created_at: datetime
    updated_at: datetime


Users = TableStatements[UserRow]
Items = TableStatements[Row]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = open_database(database_url)
    yield database
    await database.close()


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    async with database.connect(generic_plan=True) as connection:
        yield connection


@pytest.fixture
def users(database: Database) -> Users:
    return TableStatements(database, USERS, UserRow)


@pytest.fixture
def items(database: Database) -> Items:
    return TableStatements(database, ITEMS, Row)


def user(username: str, email: str | None = None, password_hash: str | None = None) -> tuple[Any, ...]:
    row = (username, email or f"{username}@x", username.title(), "writer", True, password_hash)
    return USERS.stored_row(row)


def told(results: Sequence[object]) -> list[object]:
    """Return what each member of a batch got: the kind of its error, with the fields, or its own name."""
    return [
        (type(one), getattr(one, "paths", getattr(one, "ids", ())))
        if isinstance(one, DatabaseError)
        else getattr(one, "username", getattr(one, "name", one))
        for one in results
    ]


async def added(connection: Connection, users: Users, *names: str) -> list[UserRow]:
    return all_or_nothing(await users.create(connection, list(map(user, names))))


async def everybody(database: Database) -> list[tuple[Any, ...]]:
    async with database.engine.connect() as connection:
        return [tuple(row) for row in await connection.exec_driver_sql("SELECT * FROM users ORDER BY id")]


async def test_taken_values_are_refused_alone(connection: Connection, users: Users) -> None:
    [ada] = await added(connection, users, "ada")
    rows = [user("bob"), user("ada", "new@x"), user("cat"), user("dan", "ADA@X"), user("ada"), user("eve")]
    results = await users.create(connection, rows)
    assert told(results) == [
        "bob",
        (AlreadyExists, (("username",),)),
        "cat",
        (AlreadyExists, (("email",),)),
        (AlreadyExists, (("username",), ("email",))),
        "eve",
    ]
    made = [one for one in results if isinstance(one, UserRow)]
    assert [one.id for one in made] == sorted(one.id for one in made)
    assert await users.get(connection, [one.id for one in [ada, *made]]) == [ada, *made]
    assert (
        told(await users.create(connection, [user("ada"), user("bob")]))
        == [(AlreadyExists, (("username",), ("email",)))] * 2
    )


async def test_unknown_references_are_refused_alone(connection: Connection, users: Users, items: Items) -> None:
    [ada] = await added(connection, users, "ada")
    owners = [None, ada.id, NOBODY, ada.id, NOBODY, NOBODY + 1, None]
    results = await items.create(connection, [NewRow(f"lamp {n}", n, True, owner) for n, owner in enumerate(owners)])
    refused = (UnknownReference, (("owner_id",),))
    assert told(results) == [
        refused if owner is not None and owner >= NOBODY else f"lamp {n}" for n, owner in enumerate(owners)
    ]


async def test_patches_are_refused_for_every_reason_alone(connection: Connection, users: Users, items: Items) -> None:
    ada, bob, cat, dan = await added(connection, users, "ada", "bob", "cat", "dan")
    results = await users.update(
        connection,
        [
            patch(dan.id, username="ada", email="DAN@x"),
            patch(NOBODY, username="ada"),
            patch(bob.id, version=7, username="ada"),
            patch(ada.id, username="ada", email="Ada@X"),
            patch(cat.id, version=1, username="cat.", is_active=False),
        ],
    )
    assert told(results) == [
        (AlreadyExists, (("username",),)),
        (NotFound, (NOBODY,)),
        (VersionMismatch, (bob.id,)),
        "ada",
        "cat.",
    ]
    assert [one.version for one in results if isinstance(one, UserRow)] == [2, 2]
    lamp, desk = all_or_nothing(await items.create(connection, [NewRow("lamp", 1, True), NewRow("desk", 1, True)]))
    changed = await items.update(
        connection, [patch(lamp.id, owner_id=NOBODY), patch(desk.id, owner_id=ada.id), patch(NOBODY, owner_id=NOBODY)]
    )
    assert told(changed) == [(UnknownReference, (("owner_id",),)), "desk", (NotFound, (NOBODY,))]


async def test_deletions_are_refused_for_every_reason_alone(connection: Connection, users: Users, items: Items) -> None:
    ada, bob, cat, dan = await added(connection, users, "ada", "bob", "cat", "dan")
    await items.create(connection, [NewRow("lamp", 1, True, owner) for owner in (ada.id, ada.id, dan.id)])
    deletions = [Deletion(dan.id, 1), Deletion(NOBODY), Deletion(bob.id, 7), Deletion(ada.id), Deletion(cat.id, 1)]
    results = await users.delete(connection, deletions)
    assert told(results) == [
        (StillReferenced, (dan.id,)),
        (NotFound, (NOBODY,)),
        (VersionMismatch, (bob.id,)),
        (StillReferenced, (ada.id,)),
        None,
    ]
    assert told(await users.delete(connection, [Deletion(ada.id, 7), Deletion(cat.id)])) == [
        (VersionMismatch, (ada.id,)),
        (NotFound, (cat.id,)),
    ]
    with pytest.raises(StillReferenced) as refused:
        all_or_nothing(await users.delete(connection, [Deletion(ada.id), Deletion(dan.id)]))
    assert (refused.value.ids, refused.value.by) == ((ada.id, dan.id), "items")


async def test_null_is_written_where_it_is_named_and_nowhere_else(
    connection: Connection, database: Database, users: Users, items: Items
) -> None:
    rows = [user("ada", password_hash="hash a"), user("bob", password_hash="hash b")]
    ada, bob = all_or_nothing(await users.create(connection, rows))
    await users.update(connection, [patch(bob.id, password_hash=None), patch(ada.id, name="A")])
    position = list(USERS.core.c.keys()).index("password_hash")
    assert [row[position] for row in await everybody(database)] == ["hash a", None]
    rows_of_items = [NewRow("lamp", 1, True, ada.id), NewRow("desk", 1, True, ada.id)]
    lamp, desk = all_or_nothing(await items.create(connection, rows_of_items))
    changed = await items.update(connection, [patch(desk.id, owner_id=None), patch(lamp.id, price=2.0)])
    assert [(one.owner_id, one.version) for one in changed if isinstance(one, Row)] == [(None, 2), (ada.id, 2)]


async def test_a_patch_that_names_nothing_changes_nothing(connection: Connection, users: Users) -> None:
    ada, bob = await added(connection, users, "ada", "bob")
    results = await users.update(connection, [patch(ada.id), patch(bob.id, username="bob."), patch(NOBODY)])
    assert results[0] == ada
    assert told(results)[1:] == ["bob.", (NotFound, (NOBODY,))]


async def test_a_folded_value_follows_the_field_that_it_is_made_of(
    connection: Connection, database: Database, users: Users
) -> None:
    [ada] = all_or_nothing(await users.create(connection, [user("ada", "ADA@Straße")]))
    position = list(USERS.core.c.keys()).index("email_folded")
    assert [row[position] for row in await everybody(database)] == ["ada@straße"]
    [changed] = all_or_nothing(await users.update(connection, [patch(ada.id, email="ÉVE@x")]))
    assert changed.email == "ÉVE@x"
    assert [row[position] for row in await everybody(database)] == ["éve@x"]
    assert told(await users.create(connection, [user("bob", "éve@X")])) == [(AlreadyExists, (("email",),))]


@pytest.mark.parametrize("backwards", [False, True])
async def test_unique_values_swap_in_a_transaction_or_stay(
    connection: Connection, database: Database, users: Users, backwards: bool
) -> None:
    ada, bob, cat = await added(connection, users, "ada", "bob", "cat")
    patches: list[Patch] = [
        patch(ada.id, username="bob", email="CAT@x"),
        patch(bob.id, version=1, username="ada"),
        patch(cat.id, email="ada@X"),
    ]
    async with transaction(database) as session:
        found = await users.update_all(SessionConnection(session), patches[:: -1 if backwards else 1])
    assert sorted(one[:3] for one in all_or_nothing(found)) == [
        (ada.id, "bob", "CAT@x"),
        (bob.id, "ada", "bob@x"),
        (cat.id, "cat", "ada@X"),
    ]
    before = await everybody(database)
    wrong = [patch(ada.id, username="ada"), patch(bob.id, username="bob"), patch(cat.id, version=1, name="C")]
    with pytest.raises(VersionMismatch):
        async with transaction(database) as session:
            all_or_nothing(await users.update_all(SessionConnection(session), wrong))
    assert await everybody(database) == before


async def test_of_equal_patches_in_one_transaction_the_later_is_named(
    connection: Connection, database: Database, users: Users
) -> None:
    bob, cat, dan = (one.id for one in await added(connection, users, "bob", "cat", "dan"))
    patches = [patch(bob, email="A@x"), patch(cat, username="ada"), patch(dan, username="ada", email="a@X")]
    async with transaction(database) as session:
        with pytest.raises(AlreadyExists) as refused:
            await users.update_all(SessionConnection(session), patches)
    assert refused.value.paths == ((2, "username"), (2, "email"))


@pytest.mark.parametrize(("missed", "error"), [({"id": 99}, NotFound), ({"version": 7}, VersionMismatch)])
async def test_a_row_that_a_transaction_misses_goes_before_values_that_clash(
    connection: Connection, database: Database, users: Users, missed: dict[str, Any], error: type[Exception]
) -> None:
    bob, cat = await added(connection, users, "bob", "cat")
    patches = [patch(bob.id, username="ada"), patch(cat.id, username="ada")._replace(**missed)]
    async with transaction(database) as session:
        with pytest.raises(error):
            all_or_nothing(await users.update_all(SessionConnection(session), patches))


@on_postgresql
@pytest.mark.parametrize("names", [["bob", "cat"], ["ada", "bob", "cat"], ["bob", "ada"], ["ada"]], ids="+".join)
async def test_a_creation_that_is_repeated_under_its_token_has_the_same_results(
    connection: Connection, database: Database, users: Users, names: list[str]
) -> None:
    await added(connection, users, "ada")
    token, rows = token_bytes(TOKEN_BYTES), [user(name) for name in names]
    first = await users.create(connection, rows, token)
    before = await everybody(database)
    assert len(before) == 1 + len(set(names) - {"ada"})
    for _ in range(2):
        again = await users.create(connection, rows, token)
        assert told(again) == told(first)
        assert [one for one in again if isinstance(one, UserRow)] == [one for one in first if isinstance(one, UserRow)]
    assert await everybody(database) == before


@on_postgresql
@pytest.mark.parametrize("change", ["renamed", "deleted"])
async def test_a_repeated_creation_with_refusals_does_not_guess_what_has_changed_since(
    connection: Connection, users: Users, change: str
) -> None:
    await added(connection, users, "ada")
    token, rows = token_bytes(TOKEN_BYTES), [user("ada"), user("bob"), user("cat")]
    bob = (await users.create(connection, rows, token))[1]
    assert isinstance(bob, UserRow)
    if change == "renamed":
        await users.update(connection, [patch(bob.id, username="bob.")])
    else:
        await users.delete(connection, [Deletion(bob.id)])
    with pytest.raises(OutcomeUnknown):
        await users.create(connection, rows, token)


@on_postgresql
async def test_patches_and_deletions_that_are_repeated_under_their_token_have_the_same_results(
    connection: Connection, database: Database, users: Users, items: Items
) -> None:
    ada, bob, cat = await added(connection, users, "ada", "bob", "cat")
    await items.create(connection, [NewRow("lamp", 1, True, ada.id)])
    patches = [patch(ada.id, username="bob"), patch(NOBODY, name="X"), patch(cat.id, username="dan")]
    token = token_bytes(TOKEN_BYTES)
    first = await users.update(connection, patches, token)
    assert told(first) == [(AlreadyExists, (("username",),)), (NotFound, (NOBODY,)), "dan"]
    before = await everybody(database)
    assert told(await users.update(connection, patches, token)) == told(first)
    assert await everybody(database) == before
    deletions = [Deletion(bob.id), Deletion(ada.id), Deletion(NOBODY)]
    token = token_bytes(TOKEN_BYTES)
    first_deleted = await users.delete(connection, deletions, token)
    assert told(first_deleted) == [None, (StillReferenced, (ada.id,)), (NotFound, (NOBODY,))]
    assert told(await users.delete(connection, deletions, token)) == told(first_deleted)


async def test_filters_of_a_folded_field_are_folded(connection: Connection, database: Database, users: Users) -> None:
    filters = {"email_prefix": starts_with("email"), "has_email": is_set("email")}
    table = replace(USERS, filters=filters)
    statements = TableStatements(database, table, UserRow)
    await users.create(connection, [user("one", "az@x"), user("two", "AZURE@x"), user("six", "b@x")])
    page = await statements.page(connection, Query(filters=(("email_prefix", "Az"), ("has_email", True))))
    assert [row.username for row in page.rows] == ["one", "two"]


async def test_two_filters_with_one_bound_are_refused(database: Database) -> None:
    table = replace(USERS, filters={"since": at_least("created_at"), "created_at_min": at_least("created_at")})
    with pytest.raises(TypeError, match="two filters of users have the same bound"):
        TableStatements(database, table, UserRow)


async def test_statements_of_lists_are_kept_within_a_bound(
    connection: Connection, users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.tables.pagination.STATEMENTS_MAX", 2)
    for order in ("id", "username", "email", "created_at"):
        for _ in range(2):
            assert (await users.page(connection, Query(order=order))).rows == []
    assert len(users._paginator._statements) == 2


def test_a_refused_batch_names_the_rows_of_one_referring_table() -> None:
    results = [StillReferenced([1], "user", "items"), None, StillReferenced([2], "user", "books")]
    with pytest.raises(StillReferenced) as refused:
        all_or_nothing(results)
    assert (refused.value.ids, refused.value.by) == ((1,), "items")
