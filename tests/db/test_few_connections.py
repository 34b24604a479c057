"""PostgreSQL allows fewer connections than a worker would hold: everything is served, more slowly."""

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import make_url

from db.batching.connection_sets import SHARED_INTEGERS
from service.settings import Settings
from service.worker_state import WorkerState
from tests.conftest import migrate
from tests.db.test_outage import LAMP, outage, recovered, requests
from tests.support.postgres import PostgresServer
from tests.support.responses import PATIENT, code, serving
from tests.support.waiting import LIMIT_S, wait_until

PASSWORD = "s3cret"
COUNT = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"
END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        migrate(server.url())
        server.query(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_read_all_data, pg_write_all_data")
        server.query("GRANT USAGE ON SCHEMA public TO app")
        yield server


@pytest.fixture
def url(server: PostgresServer, request: pytest.FixtureRequest) -> str:
    """Return the address of the database for a role that may have so many connections."""
    server.query(f"ALTER ROLE app CONNECTION LIMIT {request.param}")
    return make_url(server.url()).set(username="app", password=PASSWORD).render_as_string(hide_password=False)


async def keyed(client: httpx.AsyncClient) -> list[httpx.Response]:
    """Create batches under keys at the same time, each in a transaction."""
    keys = [{"idempotency-key": f'"{secrets.token_hex(8)}"'} for _ in range(4)]
    return await asyncio.gather(*(client.post("/items", json=[LAMP], headers=key) for key in keys))


async def serves_everything(client: httpx.AsyncClient) -> bool:
    responses = [*await requests(client, LIMIT_S), *await keyed(client), await client.get("/readyz")]
    return not any(response.is_server_error for response in responses)


@pytest.mark.parametrize("url", [3, 4, 6, 8], indirect=True)
async def test_everything_is_served_with_too_few_connections(url: str, server: PostgresServer) -> None:
    async with serving(Settings(database_url=url, **PATIENT)) as client:
        await becomes_served(client)
        for _ in range(3):
            assert await serves_everything(client)
        async with outage(server):
            pass
        await recovered(client)
        await becomes_served(client)


async def becomes_served(*clients: httpx.AsyncClient) -> None:
    async with asyncio.timeout(LIMIT_S):
        for client in clients:
            while not await serves_everything(client):
                pass


@pytest.mark.parametrize("url", [6, 7, 12], indirect=True)
async def test_workers_share_what_connections_there_are(url: str) -> None:
    shared = [0] * SHARED_INTEGERS
    settings = Settings(database_url=url, **PATIENT)
    async with serving(settings, WorkerState(shared)) as first:
        await becomes_served(first)  # it has all that it may
        async with serving(settings, WorkerState(shared)) as second:
            await becomes_served(second, first)
            for client in (first, second, first, second):
                assert await serves_everything(client)


@pytest.mark.parametrize("url", [6], indirect=True)
async def test_workers_share_them_also_after_the_password_was_rotated(
    url: str, server: PostgresServer, tmp_path: Path
) -> None:
    shared = [0] * SHARED_INTEGERS
    file = tmp_path / "url"
    settings = Settings(database_url=url, database_url_file=str(file), **PATIENT)
    async with serving(settings, WorkerState(shared)) as first:
        await becomes_served(first)
        file.write_text(make_url(url).set(password="rotated").render_as_string(hide_password=False))
        await asyncio.to_thread(server.query, "ALTER ROLE app PASSWORD 'rotated'")
        try:
            async with serving(settings, WorkerState(shared)) as second:
                await becomes_served(second, first)
        finally:
            await asyncio.to_thread(server.query, f"ALTER ROLE app PASSWORD '{PASSWORD}'")


@pytest.mark.parametrize("url", [20], indirect=True)
@pytest.mark.parametrize("allowed", [3, 6])
async def test_everything_is_served_with_fewer_connections_than_before(
    url: str, server: PostgresServer, allowed: int
) -> None:
    async with serving(Settings(database_url=url, **PATIENT)) as client:
        assert await serves_everything(client)  # with a connection for each transaction
        await asyncio.to_thread(server.query, f"ALTER ROLE app CONNECTION LIMIT {allowed}")
        await asyncio.to_thread(server.query, END)
        # Those for batches come first; transactions find out when they are needed.
        await asyncio.to_thread(wait_until, lambda: server.query(COUNT) == [(allowed,)])
        await becomes_served(client)
        for _ in range(3):
            assert await serves_everything(client)


@pytest.mark.parametrize("url", [20], indirect=True)
async def test_transactions_leave_connections_to_batches(url: str, server: PostgresServer) -> None:
    async with serving(Settings(database_url=url, **PATIENT)) as client:
        await asyncio.to_thread(server.query, "ALTER ROLE app CONNECTION LIMIT 0")
        async with outage(server):
            pass
        writing = asyncio.create_task(keyed_until_all_are_created(client))
        await asyncio.to_thread(server.query, "ALTER ROLE app CONNECTION LIMIT 4")
        async with asyncio.timeout(LIMIT_S):
            await writing
        await becomes_served(client)
        for _ in range(3):
            assert await serves_everything(client)


async def keyed_until_all_are_created(client: httpx.AsyncClient) -> None:
    while any(response.is_server_error for response in await keyed(client)):
        pass


@pytest.mark.parametrize("url", [1, 2], indirect=True)
async def test_with_fewer_than_three_connections_a_service_is_not_ready_and_says_why(
    url: str, server: PostgresServer
) -> None:
    async with serving(Settings(database_url=url, **PATIENT)) as client:
        response = await client.get("/readyz")
        assert code(response) == (503, "not-ready")
        assert 'too many connections for role "app"' in response.json()["detail"]
        await asyncio.to_thread(server.query, "ALTER ROLE app CONNECTION LIMIT 20")
        await becomes_served(client)
