"""PgBouncer where the settings say that there is none: refused in clear words, before any statement is mixed up."""

import os
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from service.settings import Settings
from tests.db.test_migrations import ROOT
from tests.db.test_outage import LAMP
from tests.support.pgbouncer import BINARY, PgBouncerServer
from tests.support.responses import code, everything, serving

pytestmark = [
    pytest.mark.skipif(BINARY is None, reason="PgBouncer is not installed; on Debian, apt-get install pgbouncer"),
    pytest.mark.parametrize("backend", ["postgresql"], indirect=True),
]
IGNORED = "statement_timeout, idle_in_transaction_session_timeout, client_min_messages"
REASON = "it is reached through a pooler, such as PgBouncer: set ITEMSVC_PGBOUNCER=on"

ADVICE = "ITEMSVC_PGBOUNCER is on, but there is no pooler: off is faster, and follows failovers"


@pytest.fixture(scope="module", params=["", IGNORED], ids=["refuses settings", "ignores settings"])
def pgbouncer(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[PgBouncerServer]:
    with PgBouncerServer(postgres_url, ignored=request.param) as pgbouncer:
        yield pgbouncer


@pytest.fixture(params=["", "?target_session_attrs=any"], ids=["the primary", "any"])
def url(request: pytest.FixtureRequest, pgbouncer: PgBouncerServer, database_url: str) -> str:
    return pgbouncer.url(database_url) + str(request.param)


def run(url: str, command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "DATABASE_URL": url, "PORT": "0", **settings}
    return subprocess.run(
        [sys.executable, "-m", "service", command],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environ,
        timeout=60,
    )


@pytest.mark.parametrize("command", ["serve", "check", "migrate"])
def test_the_command_line_refuses_it_and_names_the_setting(url: str, command: str) -> None:
    done = run(url, command)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, f"- {REASON}")


async def test_a_service_is_not_ready_and_sends_nothing_through_it(
    url: str, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(Settings(database_url=url)) as client:
        assert code(await client.get("/readyz")) == (503, "not-ready")
        for response in await uses(client):
            assert code(response) == (503, "unavailable")
    assert REASON in caplog.text
    async with serving(Settings(database_url=database_url)) as client:
        assert await everything(client) == []


def test_a_pooler_that_is_not_there_is_advice(database_url: str) -> None:
    done = run(database_url, "check", ITEMSVC_PGBOUNCER="on")
    assert (done.returncode, done.stdout.splitlines()[-1].split(maxsplit=1)) == (0, ["advice", ADVICE])


def test_a_pooler_that_is_there_is_no_advice(pgbouncer: PgBouncerServer, database_url: str) -> None:
    done = run(pgbouncer.url(database_url), "check", ITEMSVC_PGBOUNCER="on")
    assert done.returncode == 0
    assert "advice" not in done.stdout


async def uses(client: httpx.AsyncClient) -> list[httpx.Response]:
    """Read, list, create, and change a batch."""
    return [
        await client.get("/items/1"),
        await client.get("/items"),
        await client.post("/items", json=LAMP),
        await client.patch("/items", json=[{"id": 1, "price": 1}]),
    ]
