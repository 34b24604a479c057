"""PostgreSQL allows fewer connections than a worker would hold: everything is served, more slowly."""

import asyncio
import secrets
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import make_url

from service.settings import Settings
from tests.conftest import migrate
from tests.db.test_outage import LAMP, outage, recovered, requests
from tests.support.postgres import PostgresServer
from tests.support.responses import PATIENT, code, serving
from tests.support.waiting import LIMIT_S

PASSWORD = "s3cret"


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
        async with asyncio.timeout(LIMIT_S):
            while not await serves_everything(client):
                pass
        for _ in range(3):
            assert await serves_everything(client)
        async with outage(server):
            pass
        await recovered(client)
        async with asyncio.timeout(LIMIT_S):
            while not await serves_everything(client):
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
        async with asyncio.timeout(LIMIT_S):
            while not await serves_everything(client):
                pass
