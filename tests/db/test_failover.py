"""PostgreSQL moves to another server: the service follows, and no write that was acknowledged stays behind."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy import select

from db import revisions
from db.engines.database import Options
from db.engines.engine import open_database
from db.errors import Unavailable
from db.resources.items import ITEMS
from db.schema import current_schema
from db.session import transaction
from db.tables.sql import TableSQL
from service.settings import Settings
from service.settings_reader import read_settings
from tests.conftest import migrate
from tests.db.test_migrations import ROOT
from tests.db.test_outage import LAMP, Writers, names, recovered, requests
from tests.support.ports import PORTS
from tests.support.postgres import HOST, QUICK, SUPERUSER, PostgresServer, Standby
from tests.support.responses import create_item, serving
from tests.support.waiting import until

SAFE = {**QUICK, "synchronous_commit": "on", "synchronous_standby_names": "*"}
RECOVERY_S = 5.0
NOBODY = PORTS.start - 1  # nobody listens there


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        migrate(server.url())
        yield server


@pytest.fixture
async def changing(server: PostgresServer) -> AsyncIterator[PostgresServer]:
    """Return a server that may be made read only."""
    yield server
    await make_read_only(server, "off")


@pytest.fixture
def primary() -> Iterator[PostgresServer]:
    """Return a server that acknowledges what its standby has."""
    with PostgresServer(settings=SAFE) as primary:
        yield primary


@pytest.fixture
def standby(primary: PostgresServer) -> Iterator[Standby]:
    with primary.standby() as standby:
        migrate(primary.url())
        yield standby


@pytest.fixture
async def client(primary: PostgresServer, standby: Standby) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(Settings(database_url=both(primary.port, standby))) as client:
        yield client


def both(port: int, server: PostgresServer) -> str:
    """Return the address of a database that is at a port or on a server, as the settings make it of libpq's."""
    place = f"{HOST}:{server.port}"
    url = server.url().replace(place, f"{HOST}:{port},{place}")
    return read_settings({"DATABASE_URL": url}).database_url


@contextmanager
def black_hole() -> Iterator[int]:
    """Return a port where connections are accepted, and nothing ever responds."""
    with socket.create_server((HOST, 0)) as listener:
        yield listener.getsockname()[1]


@asynccontextmanager
async def behind(server: PostgresServer) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """Connect behind the service's back."""
    connection = await asyncpg.connect(
        host=HOST, port=server.port, user=SUPERUSER, password=server.password, database="postgres"
    )
    try:
        yield connection
    finally:
        await connection.close()


async def make_read_only(server: PostgresServer, value: str = "on") -> None:
    """Let a server refuse writes, as one that was demoted does, and wait until its sessions know."""
    async with behind(server) as connection:
        await connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        await connection.execute("SELECT pg_reload_conf()")
    current = ""
    while current != value:
        async with behind(server) as connection:
            current = await connection.fetchval("SHOW default_transaction_read_only")


async def sessions(server: PostgresServer) -> int:
    """Count the connections of services."""
    async with behind(server) as connection:
        sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'items-service'"
        return int(await connection.fetchval(sql))


async def test_a_primary_that_is_killed_is_replaced_by_its_standby_and_nothing_acknowledged_is_lost(
    client: httpx.AsyncClient, primary: PostgresServer, standby: Standby
) -> None:
    writers = Writers(client)
    await until(lambda: len(writers.names("written")) > 100)
    await asyncio.to_thread(primary.kill)
    await asyncio.to_thread(standby.promote)
    before = len(writers.names("written"))
    await until(lambda: len(writers.names("written")) > before + 100, RECOVERY_S)
    await recovered(client)
    await writers.stop()
    assert set(writers.outcomes.values()) <= {"nothing", "written", "unavailable", "commit-outcome-unknown"}
    there = await names(client)
    assert writers.names("written") <= there
    assert not writers.names("unavailable") & there


async def create(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/items", json=LAMP)


async def change_batch(client: httpx.AsyncClient) -> httpx.Response:
    return await client.patch("/items", json=[{"id": 1, "price": 2}])


@pytest.mark.parametrize("write", [create, change_batch], ids=["by a batcher", "by the pool"])
async def test_a_primary_that_refuses_a_write_is_left_by_every_connection_and_the_write_made_elsewhere(
    client: httpx.AsyncClient,
    primary: PostgresServer,
    standby: Standby,
    write: Callable[[httpx.AsyncClient], Any],
) -> None:
    await create_item(client)
    assert {response.status_code for response in await requests(client)} <= {200, 201, 404}
    everyone = await sessions(primary)
    assert everyone > Settings().batch_connections  # batchers and pool
    await make_read_only(primary)
    await asyncio.to_thread(standby.promote)
    assert (await write(client)).is_success
    async with asyncio.timeout(RECOVERY_S):
        while await sessions(primary):  # without another request
            pass
        await recovered(client)
    assert await sessions(standby) == everyone


@pytest.mark.parametrize("how", ["refuses", "is silent"])
async def test_a_service_whose_first_host_does_not_respond_starts_with_the_second(
    server: PostgresServer, how: str
) -> None:
    with black_hole() as silent:
        settings = Settings(database_url=both(silent if how == "is silent" else NOBODY, server))
        async with asyncio.timeout(RECOVERY_S), serving(settings) as client:
            assert (await client.get("/readyz")).is_success
            assert {response.status_code for response in await requests(client)} <= {200, 201, 404}


async def test_the_host_that_was_reached_is_the_first_to_be_tried_again(server: PostgresServer) -> None:
    with black_hole() as silent:
        database = open_database(both(silent, server), Options(connect_timeout_ms=2000))
        async with database.connect():
            pass
        async with asyncio.timeout(0.9), database.connect():  # the first alone may take a second
            pass
        await database.close()


async def test_the_error_of_no_primary_names_every_host(primary: PostgresServer, standby: Standby) -> None:
    primary.stop()
    database = open_database(both(primary.port, standby))
    expected = rf"{HOST}:{primary.port}: .*; {HOST}:{standby.port} is not read-write"
    with pytest.raises(Unavailable, match=expected):
        await database.connect().__aenter__()
    with pytest.raises(Unavailable, match=expected):
        await current_schema(database)
    await database.close()


async def test_a_url_can_ask_for_a_standby(primary: PostgresServer, standby: Standby) -> None:
    database = open_database(f"{both(primary.port, standby)}&target_session_attrs=standby")
    assert (await current_schema(database)).revision == revisions.head()
    assert await sessions(standby) == 1
    assert await sessions(primary) == 0
    await database.close()


async def test_a_write_that_was_refused_by_a_read_only_server_was_not_done(changing: PostgresServer) -> None:
    database = open_database(changing.url())
    sql = TableSQL(database, ITEMS)
    async with database.connect() as writer, database.connect() as reader:
        await make_read_only(changing)
        with pytest.raises(Unavailable):
            await writer.fetch(sql.create, sql.new_rows.bind([("unwritten", 1.0, True, None)]))
        assert writer.closed
        assert reader.closed
    with pytest.raises(Unavailable, match="is not read-write"):
        await database.connect().__aenter__()
    await make_read_only(changing, "off")
    async with transaction(database) as session:
        found = (await session.execute(select(ITEMS.core.c.id).where(ITEMS.core.c.name == "unwritten"))).all()
    assert not found
    await database.close()


async def test_where_any_server_will_do_one_that_is_read_only_is_not_left(changing: PostgresServer) -> None:
    database = open_database(f"{changing.url()}?target_session_attrs=any")
    sql = TableSQL(database, ITEMS)
    async with database.connect() as writer, database.connect() as reader:
        await make_read_only(changing)
        with pytest.raises(Unavailable):
            await writer.fetch(sql.create, sql.new_rows.bind([("lamp", 1.0, True, None)]))
        assert not reader.closed
    await database.close()


@pytest.mark.parametrize("command", ["service migrate", "service check", "alembic current"])
def test_every_command_takes_several_hosts(server: PostgresServer, command: str) -> None:
    place = f"{HOST}:{server.port}"
    done = subprocess.run(
        [sys.executable, "-m", *command.split()],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"DATABASE_URL": server.url().replace(place, f"{HOST}:{NOBODY},{place}")},
    )
    assert done.returncode == 0, done.stderr
    assert revisions.head() in done.stdout
