"""A rotated password: DATABASE_URL_FILE is read anew when the database refuses a connection."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import make_url

from service.settings_reader import read_settings
from tests.conftest import migrate
from tests.db.test_outage import recovered, requests
from tests.support.postgres import PostgresServer
from tests.support.responses import code, serving
from tests.support.serving import ServiceProcess
from tests.support.waiting import LIMIT_S, until, wait_until

OLD, NEW = "old@:/% ", "new@:/% "


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        migrate(server.url())
        yield server


@pytest.fixture
def roles(server: PostgresServer) -> Iterator[None]:
    """Make two roles for a service, both with the old password."""
    for role in ("app", "successor"):
        server.query(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{OLD}'")
    yield
    for role in ("app", "successor"):
        server.query(f"DROP ROLE {role}")


@pytest.fixture
def file(tmp_path: Path, server: PostgresServer, roles: None) -> Path:  # noqa: ARG001 - the file names a role
    path = tmp_path / "url"
    path.write_text(url(server, "app", OLD) + "\n")
    return path


def url(server: PostgresServer, user: str, password: str) -> str:
    return make_url(server.url()).set(username=user, password=password).render_as_string(hide_password=False)


def rewrite(file: Path, text: str | None) -> None:
    """Replace the file at once, as a platform does, or remove it."""
    if text is None:
        file.unlink()
    else:
        file.with_suffix(".new").write_text(text)
        file.with_suffix(".new").replace(file)


@asynccontextmanager
async def served(file: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(read_settings({"DATABASE_URL_FILE": str(file)})) as client:
        await recovered(client)
        yield client


async def query(server: PostgresServer, sql: str) -> None:
    await asyncio.to_thread(server.query, sql)


async def end_connections(server: PostgresServer) -> None:
    await query(server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN ('app', 'successor')")


async def is_refused(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(LIMIT_S):
        while {response.status_code for response in await requests(client, LIMIT_S)} != {503}:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert code(await client.get("/readyz")) == (503, "not-ready")


async def test_a_rotated_password_is_read_anew_when_the_one_before_is_refused(
    server: PostgresServer, file: Path
) -> None:
    async with served(file) as client:
        await query(server, f"ALTER ROLE app PASSWORD '{NEW}'")
        rewrite(file, url(server, "app", NEW))
        await end_connections(server)
        await recovered(client)


async def test_a_file_that_is_rewritten_before_the_password_is_changed_takes_nothing_away(
    server: PostgresServer, file: Path
) -> None:
    async with served(file) as client:
        rewrite(file, url(server, "app", NEW))
        await end_connections(server)
        await recovered(client)
        await query(server, f"ALTER ROLE app PASSWORD '{NEW}'")
        await end_connections(server)
        await recovered(client)


async def test_a_file_that_is_rewritten_after_the_password_was_changed_makes_the_service_ready(
    server: PostgresServer, file: Path
) -> None:
    async with served(file) as client:
        await query(server, f"ALTER ROLE app PASSWORD '{NEW}'")
        await end_connections(server)
        await is_refused(client)
        rewrite(file, url(server, "app", NEW))
        await recovered(client)


async def test_another_user_may_come_with_the_password(server: PostgresServer, file: Path) -> None:
    async with served(file) as client:
        await query(server, "ALTER ROLE app NOLOGIN")
        rewrite(file, url(server, "successor", OLD))
        await end_connections(server)
        await recovered(client)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "DATABASE_URL_FILE cannot be read: No such file or directory"),
        ("postgresql://app:s3cret", "what DATABASE_URL_FILE has by now is no URL that can be used"),
        ("postgresql://app:s3cret@127.0.0.1:1/items", "DATABASE_URL_FILE has another database's URL by now"),
    ],
    ids=["missing", "no URL", "another database"],
)
async def test_a_file_that_cannot_be_used_is_logged_with_the_refusal_and_read_again(
    server: PostgresServer, file: Path, caplog: pytest.LogCaptureFixture, text: str | None, expected: str
) -> None:
    async with served(file) as client:
        await query(server, f"ALTER ROLE app PASSWORD '{NEW}'")
        rewrite(file, text)
        await end_connections(server)
        await is_refused(client)
        await until(lambda: expected in caplog.text)
        assert 'password authentication failed for user "app"' in caplog.text
        assert "s3cret" not in caplog.text
        rewrite(file, url(server, "app", NEW))
        await recovered(client)


def test_workers_that_are_started_after_the_password_was_changed_read_it_anew(
    server: PostgresServer, file: Path
) -> None:
    with ServiceProcess("", workers=2, DATABASE_URL_FILE=str(file)) as service:
        server.query(f"ALTER ROLE app PASSWORD '{NEW}'")
        rewrite(file, url(server, "app", NEW))
        for worker in service.workers:
            worker.kill()
        wait_until(lambda: service.log.count("Started worker-") >= 4 and service.is_ready())
