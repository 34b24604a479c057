"""The cleaner of expired rows: it outlives every failure, says each, and its steps fit any statement timeout."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import insert

from db.engines.commit_records import commit_records
from db.engines.database import Database
from db.engines.engine import open_database
from db.models import Token, User
from db.models import table as core_table
from db.transactions.idempotency import idempotency_records
from db.transactions.retention import ExpiredRowsCleaner
from service.settings import Settings
from tests.support.responses import PATIENT, execute, serving
from tests.support.roles import role
from tests.support.waiting import until

ROWS = 2500
OLD = datetime.now(UTC) - timedelta(days=2)
on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
LAMP = {"name": "lamp", "price": 1}
# A statement that deletes many rows takes too long.
SLOW = """CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    IF (SELECT count(*) FROM deleted) > 300 THEN RAISE EXCEPTION 'slow' USING ERRCODE = '57014'; END IF;
    RETURN NULL;
END$$"""
TRIGGER = """CREATE TRIGGER slow AFTER DELETE ON {} REFERENCING OLD TABLE AS deleted
    FOR EACH STATEMENT EXECUTE FUNCTION slow()"""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = open_database(database_url)
    yield database
    await database.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the cleaner work all the time."""
    for name in ("INTERVAL_S", "RETRY_S"):
        monkeypatch.setattr(f"db.transactions.retention.{name}", 0.01)


async def add_keys(database: Database, count: int = ROWS, created_at: datetime = OLD) -> None:
    rows = [
        {"scope": str(uuid4()), "fingerprint": "", "response": b"", "created_at": created_at + timedelta(seconds=n)}
        for n in range(count)
    ]
    async with database.engine.begin() as connection:
        await connection.execute(insert(idempotency_records), rows)


async def add_commit_records(database: Database, count: int = ROWS, created_at: datetime = OLD) -> None:
    rows = [{"token": uuid4(), "ids": [], "created_at": created_at} for _ in range(count)]
    async with database.engine.begin() as connection:
        await connection.execute(insert(commit_records), rows)


async def add_tokens(database: Database, *expiries: datetime | None) -> None:
    user = {"username": "ada", "email": "a@b", "email_folded": "a@b", "name": "Ada", "role": "writer"}
    async with database.engine.begin() as connection:
        [user_id] = await connection.scalars(insert(core_table(User)).values(is_active=True, **user).returning(User.id))
        stored = {"user_id": user_id, "name": "t", "prefix": "itm_", "digest": "a" * 64}
        await connection.execute(insert(core_table(Token)), [{**stored, "expires_at": one} for one in expiries])


async def count(url: str, table: str) -> int:
    [[rows]] = await execute(url, f"SELECT count(*) FROM {table}")  # noqa: S608 - a name of this module
    return int(rows)


async def wait_for_count(url: str, table: str, rows: int) -> None:
    async with asyncio.timeout(15):
        while await count(url, table) != rows:  # noqa: ASYNC110 - it happens in a database
            await asyncio.sleep(0.01)


def failures(caplog: pytest.LogCaptureFixture, table: str) -> list[str]:
    return [each for each in caplog.messages if each.startswith(f"expired rows of {table} were not deleted: ")]


@on_postgresql
@pytest.mark.usefixtures("impatient")
async def test_a_right_that_is_revoked_and_granted_again_stops_nothing(
    database_url: str, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """The other table is cleaned meanwhile."""
    await add_keys(database)
    await add_commit_records(database)
    grants = ("SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public",)
    async with role(database_url, *grants) as url:
        name = url.split("//")[1].split(":")[0]
        await execute(database_url, f"REVOKE DELETE ON idempotency_keys FROM {name}")
        async with serving(Settings(database_url=url, **PATIENT)):
            await until(lambda: len(failures(caplog, "idempotency_keys")) > 2)
            await wait_for_count(database_url, "commit_records", 0)
            assert "permission denied for table idempotency_keys" in failures(caplog, "idempotency_keys")[0]
            assert await count(database_url, "idempotency_keys") == ROWS
            await execute(database_url, f"GRANT DELETE ON idempotency_keys TO {name}")
            await wait_for_count(database_url, "idempotency_keys", 0)
    assert not failures(caplog, "commit_records")


@pytest.mark.usefixtures("impatient")
async def test_a_table_that_was_away_is_cleaned_again(
    client: httpx.AsyncClient, database_url: str, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await add_keys(database)
    await execute(database_url, "ALTER TABLE idempotency_keys RENAME TO elsewhere")
    await until(lambda: failures(caplog, "idempotency_keys"))
    await execute(database_url, "ALTER TABLE elsewhere RENAME TO idempotency_keys")
    await wait_for_count(database_url, "idempotency_keys", 0)
    assert (await client.get("/readyz")).status_code == 200


@pytest.mark.usefixtures("impatient")
async def test_no_exception_ends_the_cleaner(
    client: httpx.AsyncClient,
    database_url: str,
    database: Database,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("db.transactions.expired_rows.ExpiredRowsByTime.step", lambda *_: 1 / 0)
        await until(lambda: failures(caplog, "idempotency_keys"))
        await add_keys(database)
    await wait_for_count(database_url, "idempotency_keys", 0)
    assert (await client.get("/livez")).status_code == 200


@on_postgresql
@pytest.mark.parametrize(
    ("table", "add"), [("idempotency_keys", add_keys), ("commit_records", add_commit_records)], ids=["keys", "records"]
)
async def test_steps_that_take_too_long_become_smaller(
    database_url: str, database: Database, table: str, add: Callable[..., object]
) -> None:
    await execute(database_url, SLOW, TRIGGER.format(table))
    await add(database)  # type: ignore[misc] # both are coroutine functions
    assert await ExpiredRowsCleaner(database, key_lifetime_s=86400).clean() == ROWS


async def test_tokens_are_deleted_a_week_after_they_expired_and_not_before(
    database_url: str, database: Database
) -> None:
    now = datetime.now(UTC)
    long_ago, not_yet = now - timedelta(days=7, minutes=1), now - timedelta(days=7) + timedelta(minutes=1)
    older = [long_ago - timedelta(seconds=second) for second in range(ROWS)]
    await add_tokens(database, *older, not_yet, now, now + timedelta(days=400), None)
    cleaner = ExpiredRowsCleaner(database, key_lifetime_s=86400)
    assert [await cleaner.clean() for _ in range(2)] == [ROWS, 0]
    assert await count(database_url, "tokens") == 4


@pytest.mark.usefixtures("impatient", "client")
async def test_a_service_deletes_the_tokens_that_have_expired(database_url: str, database: Database) -> None:
    await add_tokens(database, datetime.now(UTC) - timedelta(days=8), None)
    await wait_for_count(database_url, "tokens", 1)


@on_postgresql
async def test_commit_records_are_deleted_after_their_lifetime_and_not_before(database: Database) -> None:
    now = datetime.now(UTC)
    await add_commit_records(database, 20_000, now - timedelta(seconds=1230))
    await add_commit_records(database, 10, now - timedelta(seconds=1170))
    cleaner = ExpiredRowsCleaner(database, key_lifetime_s=86400)
    assert [await cleaner.clean() for _ in range(2)] == [20_000, 0]
    await add_commit_records(database, 10, now - timedelta(seconds=1230))  # in pages that are behind it
    assert await cleaner.clean() == 10


async def test_a_key_that_became_visible_late_is_deleted(database: Database) -> None:
    cleaner = ExpiredRowsCleaner(database, key_lifetime_s=60)
    await add_keys(database, 10)
    assert await cleaner.clean() == 10
    await add_keys(database, 1, OLD - timedelta(seconds=30))
    assert await cleaner.clean() == 1


@on_postgresql
async def test_a_step_reads_no_more_than_it_deletes(database_url: str) -> None:
    """However many rows there are, and however many were deleted before: that is what bounds its time."""
    plans = {
        "idempotency_keys": "SELECT scope FROM idempotency_keys WHERE created_at < now() - interval '1 day'"
        " AND created_at >= '2000-01-01' ORDER BY created_at LIMIT 1000 FOR UPDATE SKIP LOCKED",
        "tokens": "SELECT id FROM tokens WHERE expires_at < now() - interval '7 days'"
        " ORDER BY expires_at LIMIT 1000 FOR UPDATE SKIP LOCKED",
        "commit_records": "DELETE FROM commit_records WHERE created_at < now() - interval '1 day'"
        " AND ctid >= CAST(CAST('(0,0)' AS text) AS tid) AND ctid < CAST(CAST('(256,0)' AS text) AS tid)",
    }
    add = "INSERT INTO {} SELECT {}, {} now() - interval '2 days' FROM generate_series(1, 20000) AS n"
    await execute(database_url, add.format("idempotency_keys", "n", "'', '',"), "ANALYZE idempotency_keys")
    await execute(database_url, add.format("commit_records", "gen_random_uuid()", "NULL,"), "ANALYZE commit_records")
    user = "INSERT INTO users (username, email, email_folded, name) VALUES ('ada', 'a@b', 'a@b', 'Ada') RETURNING id"
    [[user_id]] = await execute(database_url, user)
    tokens = f"""INSERT INTO tokens (user_id, name, prefix, digest, expires_at)
        SELECT {user_id}, n, 'itm_', repeat('a', 64), CASE WHEN n % 2 = 0 THEN now() - interval '9 days' END
        FROM generate_series(1, 20000) AS n"""  # noqa: S608 - a number
    await execute(database_url, tokens, "ANALYZE tokens")
    scans = {"idempotency_keys": "Index Scan", "tokens": "Index Scan", "commit_records": "Tid Range Scan"}
    for table, sql in plans.items():
        plan = "\n".join(line for (line,) in await execute(database_url, f"EXPLAIN {sql}"))
        assert f"{scans[table]}" in plan, plan
        assert "Seq Scan" not in plan, plan
