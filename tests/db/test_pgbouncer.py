"""Behind a real PgBouncer in transaction mode, with fewer connections to the server than there are clients."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import asyncpg
import httpx
import pytest
from sqlalchemy import func, make_url, select

from db import migrate, revisions
from db.engines.database import Database, Options
from db.engines.engine import open_database
from db.errors import InvalidValue
from db.resources.items import ITEMS
from db.schema import current_schema
from db.tables.sql import TableSQL
from service.settings import Settings
from tests.api.test_problems import locked
from tests.db.test_migrations import ROOT
from tests.db.test_outage import LAMP, recovered, requests
from tests.support.pgbouncer import BINARY, PgBouncerServer
from tests.support.responses import PATIENT, code, create_item, everything, execute, serving, walked
from tests.support.waiting import LIMIT_S

pytestmark = [
    pytest.mark.skipif(BINARY is None, reason="PgBouncer is not installed; on Debian, apt-get install pgbouncer"),
    pytest.mark.parametrize("backend", ["postgresql"], indirect=True),
]
CONNECTIONS = 2
CLIENTS = 100


@pytest.fixture(scope="module")
def pgbouncer(postgres_url: str) -> Iterator[PgBouncerServer]:
    with PgBouncerServer(postgres_url, CONNECTIONS) as pgbouncer:
        yield pgbouncer


@pytest.fixture
def settings(request: pytest.FixtureRequest, pgbouncer: PgBouncerServer, database_url: str) -> Settings:
    values = {**PATIENT, "pgbouncer": True, **getattr(request, "param", {})}
    return Settings(database_url=pgbouncer.url(database_url), **values)


@pytest.fixture
async def database(pgbouncer: PgBouncerServer, database_url: str) -> AsyncIterator[Database]:
    database = open_database(pgbouncer.url(database_url), Options(pgbouncer=True))
    yield database
    await database.close()


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings) as client:
        yield client


async def use_everything(client: httpx.AsyncClient, name: str) -> None:
    """Go once through the whole API, on items of one's own."""
    one = await create_item(client, name=name)
    address = f"/items/{one['id']}"
    read = await client.get(address)
    assert read.json() == one
    changed = await client.patch(address, json={"price": 2}, headers={"If-Match": read.headers["etag"]})
    assert (changed.json()["price"], changed.json()["version"]) == (2, 2)
    assert code(await client.put(address, json=one | {"price": -1})) == (422, "invalid-body")
    rows = [{"name": f"{name} {number}", "price": number} for number in range(3)]
    several = (await client.post("/items", json=rows)).json()
    ids = [item["id"] for item in several]
    changes = [{"id": id, "version": 1, "in_stock": False} for id in ids]
    assert [item["version"] for item in (await client.patch("/items", json=changes)).json()] == [2, 2, 2]
    assert code(await client.patch("/items", json=changes)) == (412, "stale")
    listed = f"/items?name_prefix={name}%20&order=-price&count=true"
    assert (await client.get(listed)).headers["x-total-count"] == "3"
    assert [item["id"] for item in await walked(client, f"{listed}&limit=1")] == ids[::-1]
    assert len((await client.get(f"/items?ids={ids[0]},{ids[2]}")).json()) == 2
    assert (await client.delete(f"/items?ids={ids[0]},{ids[1]}")).json() == ids[:2]
    assert (await client.delete(address)).status_code == 204
    assert code(await client.get(address)) == (404, "item-not-found")


@pytest.mark.parametrize("settings", [{"coalesce": True}, {"coalesce": False, "pool_size": 8}], indirect=True)
async def test_everything_is_served_to_many_at_once_over_two_connections(
    client: httpx.AsyncClient, database_url: str
) -> None:
    async with asyncio.timeout(60):
        await asyncio.gather(*(use_everything(client, f"client{number}") for number in range(CLIENTS)))
    assert sorted(item["name"] for item in await everything(client)) == sorted(
        f"client{number} 2" for number in range(CLIENTS)
    )
    sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    assert await execute(database_url, sql) == [(CONNECTIONS,)]


async def test_nothing_stays_on_a_connection_that_others_will_use(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    await asyncio.gather(*(use_everything(client, f"client{number}") for number in range(4)))
    url = make_url(settings.database_url)
    others = [
        await asyncpg.connect(
            host=url.host,
            port=url.port,
            user=url.username,
            password=url.password,
            database=url.database,
            statement_cache_size=0,
        )
        for _ in range(CONNECTIONS)
    ]
    for other in others:  # each in a transaction has one of the connections
        await other.execute("BEGIN")
        assert await other.fetchval("SELECT count(*) FROM pg_prepared_statements") == 0
        assert await other.fetch("SELECT name FROM pg_settings WHERE source = 'session' AND name LIKE '%able_%'") == []
        assert await other.fetchval("SHOW statement_timeout") == "0"
        assert await other.fetchval("SHOW plan_cache_mode") == "auto"
        assert await other.fetchval("SHOW jit") == "on"
    for other in others:
        await other.close()


@pytest.mark.parametrize("settings", [{"statement_timeout_ms": 100}], indirect=True)
async def test_a_statement_that_takes_too_long_is_cancelled_and_leaves_the_connection_as_it_was(
    client: httpx.AsyncClient, database_url: str
) -> None:
    item = await create_item(client)
    async with locked(database_url):
        for _ in range(2):
            assert code(await client.post("/items", json=LAMP)) == (504, "timeout")
            assert code(await client.patch("/items", json=[{"id": 1, "price": 2}])) == (504, "timeout")
    assert await everything(client) == [item]
    await use_everything(client, "lamp")


async def test_a_write_whose_connection_is_lost_before_it_was_committed_is_made_once(
    client: httpx.AsyncClient, database_url: str
) -> None:
    async with locked(database_url):
        writing = asyncio.create_task(client.post("/items", json=LAMP))
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        async with asyncio.timeout(LIMIT_S):
            while not await execute(database_url, ended):
                pass
    written = await writing
    assert await everything(client) == [written.json()]


async def test_what_cannot_be_sent_leaves_no_transaction_behind(database: Database) -> None:
    sql = TableSQL(database, ITEMS)
    async with database.connect() as connection:
        with pytest.raises(InvalidValue):
            await connection.fetch(sql.get, sql.ids.bind([("one",)]))
        assert await connection.fetch(sql.get, sql.ids.bind([(1,)])) == []
        with pytest.raises(InvalidValue):
            await connection.fetch(sql.create, sql.new_rows.bind([("lamp", -1.0, True, None)]))
        assert await connection.fetch(sql.get, sql.ids.bind([(1,)])) == []


async def test_a_connection_that_was_given_up_is_never_inside_a_transaction(database: Database) -> None:
    slow = database.statement(select(func.pg_sleep(60)))
    async with database.connect() as connection:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connection.fetch(slow, {})
        assert connection.closed


async def test_the_service_is_ready_whenever_pgbouncer_is(
    client: httpx.AsyncClient, pgbouncer: PgBouncerServer
) -> None:
    assert (await client.get("/readyz")).json() == {"status": "ready"}
    pgbouncer.stop()
    assert code(await client.get("/readyz")) == (503, "not-ready")
    assert {code(response) for response in await requests(client)} == {(503, "unavailable")}
    await asyncio.to_thread(pgbouncer.start)
    await recovered(client)


async def test_migrations_run_through_it_one_after_the_other(
    pgbouncer: PgBouncerServer, empty_database_url: str
) -> None:
    url = pgbouncer.url(empty_database_url)
    databases = [open_database(url, Options(pgbouncer=True)) for _ in range(4)]
    await asyncio.gather(*map(migrate.upgrade, databases))
    assert (await current_schema(databases[0])).revision == revisions.head()
    await migrate.downgrade(databases[0], "base")
    assert (await current_schema(databases[0])).revision == revisions.BASE
    for database in databases:
        await database.close()


def test_the_command_line_migrates_and_checks_through_it(pgbouncer: PgBouncerServer, empty_database_url: str) -> None:
    environ = {"DATABASE_URL": pgbouncer.url(empty_database_url), "ITEMSVC_PGBOUNCER": "on"}
    for command in ("migrate", "check"):
        done = subprocess.run(
            [sys.executable, "-m", "service", command],
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environ,
        )
        assert done.returncode == 0, done.stderr
