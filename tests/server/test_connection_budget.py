"""More connections than PostgreSQL allows: the start is refused, and nothing else refuses it."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import make_url

from service.command_line import main
from service.server.descriptors import TooFewFiles
from tests.conftest import migrate
from tests.support.pgbouncer import BINARY, PgBouncerServer
from tests.support.postgres import QUICK, PostgresServer
from tests.support.serving import ServiceProcess

# Of 20, 3 are the superuser's and 2 those of roles with a privilege; 15 are left.
RESERVED = {"max_connections": "20", "superuser_reserved_connections": "3", "reserved_connections": "2"}
STARTS = "the test ends here"
REFUSED = (
    "- connections to PostgreSQL: 2 workers x (6 for batches + 4 for transactions) = 20, and 10 more while a worker is"
    " replaced; the server allows 15, by its max_connections less those that it reserves, or by a CONNECTION LIMIT of"
    " the role or the database: "
)
Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer(settings={**QUICK, **RESERVED}) as server:
        migrate(server.url())
        yield server


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Run]:
    """Return the command line, whose `serve` ends where the workers would start."""

    def stops(*_: object, **__: object) -> None:
        raise TooFewFiles(STARTS)

    def run(command: str, **environ: str) -> tuple[int, str]:
        monkeypatch.setattr("os.environ", {"PORT": "0", **environ})
        return main([command]), "".join(capsys.readouterr())

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("service.commands.serve.Supervisor", stops)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield run
    root.handlers, root.level = handlers, level


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_start_that_needs_more_connections_than_postgresql_allows_is_refused(
    run: Run, server: PostgresServer, command: str
) -> None:
    code, printed = run(command, DATABASE_URL=server.url(), ITEMSVC_WORKERS="2")
    assert (code, REFUSED in printed, STARTS in printed) == (1, True, False)
    assert "The service cannot start:" in printed


@pytest.mark.parametrize(("batches", "starts"), [("11", True), ("12", False)])
def test_as_many_as_it_allows_are_enough(run: Run, server: PostgresServer, batches: str, *, starts: bool) -> None:
    environ = {"DATABASE_URL": server.url(), "ITEMSVC_BATCH_CONNECTIONS": batches}
    assert (run("check", **environ)[0] == 0) == starts
    assert (STARTS in run("serve", **environ)[1]) == starts


def test_a_service_that_fits_is_served(server: PostgresServer) -> None:
    with ServiceProcess(server.url()) as service, service.client() as client:
        assert client.get("/readyz").is_success


def test_a_database_that_is_down_does_not_stop_the_start(run: Run) -> None:
    _, printed = run("serve", DATABASE_URL="postgresql://items@127.0.0.1:1/items", ITEMSVC_WORKERS="64")
    assert STARTS in printed


@pytest.mark.skipif(BINARY is None, reason="PgBouncer is not installed; on Debian, apt-get install pgbouncer")
def test_a_pooler_may_have_more_than_postgresql(run: Run, server: PostgresServer) -> None:
    with PgBouncerServer(server.url()) as pgbouncer:
        url = pgbouncer.url(server.url())
        _, printed = run("serve", DATABASE_URL=url, ITEMSVC_PGBOUNCER="on", ITEMSVC_WORKERS="2")
    assert STARTS in printed


def test_a_file_has_no_limit(run: Run) -> None:
    assert STARTS in run("serve", DATABASE_URL="sqlite:///items.db", ITEMSVC_WORKERS="64")[1]


def test_workers_that_were_not_asked_for_by_number_are_as_many_as_fit(
    run: Run, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.settings_reader.auto_workers", lambda *_: 8)
    code, printed = run("serve", DATABASE_URL=server.url(), ITEMSVC_WORKERS="auto")
    assert STARTS in printed
    assert "1 worker x (6 for batches + 4 for transactions) = 10" in printed
    assert code == 1


def administer(server: PostgresServer, *statements: str) -> None:
    async def execute() -> None:
        connection = await asyncpg.connect(server.url().replace("+asyncpg", ""))
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    asyncio.run(execute())


@pytest.mark.parametrize("limited", ["ROLE items_limited", "DATABASE items_limited"])
def test_a_limit_of_the_role_or_the_database_is_one(run: Run, server: PostgresServer, limited: str) -> None:
    made = ("ROLE items_limited LOGIN PASSWORD 'x'", "DATABASE items_limited OWNER items_limited")
    administer(server, *(f"CREATE {one}" for one in made), f"ALTER {limited} CONNECTION LIMIT 9")
    try:
        url = make_url(server.url()).set(username="items_limited", password="x", database="items_limited")
        code, printed = run("serve", DATABASE_URL=url.render_as_string(hide_password=False))
        assert (code, "the server allows 9," in printed, STARTS in printed) == (1, True, False)
    finally:
        administer(server, "DROP DATABASE items_limited", "DROP ROLE items_limited")
