"""The command line: exit codes, what is printed, and one clear line for each error."""

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import inf
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import make_url

from db import revisions
from db.engines.database import Database
from db.engines.engine import open_database
from service.cgroup import Limits
from service.command_line import main
from service.server.descriptors import TooFewFiles
from service.settings import Settings

ROOT = Path(__file__).parent.parent.parent


class Result(NamedTuple):
    """What a command leaves behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Return the command line, in a folder of its own, with no settings but those a test gives."""
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def run(*arguments: str, **environ: str) -> Result:
        monkeypatch.setattr("os.environ", environ)
        code = main(arguments)
        return Result(code, *capsys.readouterr())

    yield run
    root.handlers, root.level = handlers, level


def test_a_start_with_too_little_memory_is_a_warning(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(*_: object, **__: object) -> None:
        raise TooFewFiles("the test ends here")

    monkeypatch.setattr("service.commands.serve.Supervisor", stops)
    for memory_mib, is_warned in ((512, False), (140, True)):
        monkeypatch.setattr("service.commands.serve.limits", partial(Limits, inf, memory_mib * 2**20))
        result = run("serve", PORT="0", ITEMSVC_WORKERS="2")
        assert "the test ends here" in result.err
        assert ("140 MiB of memory; 2 workers, and one more" in result.err) == is_warned


def errors(result: Result) -> list[str]:
    """Return the errors of a command that could not do its work, once there is nothing else in its output."""
    assert result.code == 1
    title, *listed = result.err.splitlines()
    assert title.endswith(":")
    assert all(line.startswith("- ") for line in listed)
    return [line[2:] for line in listed]


def shell(*arguments: str, cwd: Path, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command, env = [sys.executable, "-m", "service", *arguments], {"PYTHONPATH": str(ROOT), **environ}
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd, env=env, timeout=60)


def execute(url: str, sql: str) -> None:
    async def use(database: Database) -> None:
        async with database.engine.begin() as connection:
            await connection.exec_driver_sql(sql)
        await database.close()

    asyncio.run(use(open_database(url)))


MISTAKES: list[list[str]] = [
    [],
    ["sreve"],
    ["serve", "--ports", "1"],
    ["serve", "--worker", "1"],
    ["migrate", "sideways"],
]


@pytest.mark.parametrize("arguments", MISTAKES, ids=str)
def test_what_is_no_command_is_a_matter_of_usage(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(*arguments)
    assert "usage: python -m service" in capsys.readouterr().err


def test_help_names_every_command(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run("--help")
    shown = capsys.readouterr().out
    assert all(f"\n    {command} " in shown for command in ("serve", "migrate", "check", "openapi"))


def test_migrate_goes_up_and_down_and_shows_where_the_schema_is(run: Run, empty_database_url: str) -> None:
    def at(*arguments: str) -> str:
        result = run("migrate", *arguments, DATABASE_URL=empty_database_url)
        assert result.code == 0
        return result.out

    head = f"The schema is at {revisions.head()}.\n"
    assert at("current") == "The schema is at base.\n"
    assert at() == at() == at("current") == at("upgrade") == at("upgrade", "head") == head
    assert at("downgrade", "base") == at("current") == "The schema is at base.\n"
    assert at("upgrade", revisions.head()) == head


def test_a_downgrade_needs_a_revision(run: Run, database_url: str) -> None:
    [error] = errors(run("migrate", "downgrade", DATABASE_URL=database_url))
    assert "needs a revision" in error
    assert run("migrate", "current", DATABASE_URL=database_url).out == f"The schema is at {revisions.head()}.\n"


@pytest.mark.parametrize("arguments", [("upgrade", "nowhere"), ("downgrade", "nowhere"), ("upgrade", "+9")], ids=str)
def test_an_unknown_revision_is_one_clear_line(run: Run, database_url: str, arguments: tuple[str, ...]) -> None:
    result = run("migrate", *arguments, DATABASE_URL=database_url)
    [error] = errors(result)
    assert arguments[1] in error
    assert result.err.startswith("Nothing was changed:")


def test_check_prints_every_setting_the_database_and_its_schema_and_no_secret(run: Run, database_url: str) -> None:
    result = run("check", DATABASE_URL=database_url, ITEMSVC_POOL_SIZE="7")
    assert (result.code, result.err) == (0, "")
    shown = dict(line.split(maxsplit=1) for line in result.out.splitlines())
    is_sqlite = make_url(database_url).get_backend_name() == "sqlite"
    budget, owner = ([], []) if is_sqlite else (["connections"], ["audit_log"])  # which the tables' owner may change
    assert list(shown) == [*(row.variable for row in Settings().described()), *budget, "database", "schema", *owner]
    assert shown["ITEMSVC_POOL_SIZE"] == "7"
    assert shown["database"].startswith(f"{make_url(database_url).get_backend_name()} ")
    assert shown["schema"] == revisions.head()
    url = make_url(database_url)
    assert shown["DATABASE_URL"] == url.render_as_string(hide_password=True)
    assert url.password is None or str(url.password) not in result.out


def test_check_prints_how_many_connections_postgresql_has_to_allow_even_if_it_cannot_be_reached(run: Run) -> None:
    url = "postgresql://items@127.0.0.1:1/items"
    assert run("check", DATABASE_URL=url, ITEMSVC_WORKERS="2").out.splitlines()[-1] == (
        "connections to PostgreSQL: 2 workers x (6 for batches + 4 for transactions) = 20, "
        "and 10 more while a worker is replaced"
    )
    environ = {"ITEMSVC_PGBOUNCER": "on", "ITEMSVC_BATCH_CONNECTIONS": "3", "ITEMSVC_POOL_SIZE": "1"}
    assert run("check", DATABASE_URL=url, **environ).out.splitlines()[-1] == (
        "connections to PgBouncer: 1 worker x (3 for batches + 1 for transactions) = 4, "
        "and 4 more while a worker is replaced"
    )


def test_check_prints_what_to_do_about_a_schema_that_is_behind(run: Run, empty_database_url: str) -> None:
    [error] = errors(run("check", DATABASE_URL=empty_database_url))
    assert "the schema is at base" in error
    assert "python -m service migrate" in error


def test_a_schema_that_is_ahead_is_an_error_and_left_alone(run: Run, database_url: str) -> None:
    execute(database_url, "UPDATE alembic_version SET version_num = '9999'")
    for command in ("check", "migrate"):
        [error] = errors(run(command, DATABASE_URL=database_url))
        assert "9999" in error


def test_a_schema_that_is_ahead_by_additions_only_is_used_and_left_alone(run: Run, database_url: str) -> None:
    execute(database_url, "UPDATE alembic_version SET version_num = '9999'")
    execute(database_url, "INSERT INTO served_revisions VALUES ('9999')")
    for command in ("check", "migrate"):
        result = run(command, DATABASE_URL=database_url)
        assert (result.code, result.err) == (0, "")
        assert "9999" in result.out


def test_openapi_prints_the_document_and_asks_no_database(run: Run) -> None:
    result = run("openapi", DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out)["openapi"].startswith("3.1")


def test_every_error_of_the_settings_is_listed_and_no_secret(run: Run) -> None:
    result = run(
        "check",
        DATABASE_URL="mysql://items:s3cret@db/items",
        PORT="many",
        ITEMSVC_WORKER="2",
        ITEMSVC_COALESCE="maybe",
    )
    listed = errors(result)
    assert [error.split()[0] for error in listed] == ["ITEMSVC_WORKER", "DATABASE_URL", "PORT", "ITEMSVC_COALESCE"]
    assert "did you mean ITEMSVC_WORKERS?" in listed[0]
    assert "s3cret" not in result.err + result.out
    assert result.out == ""


def test_options_are_settings_and_their_errors_are_listed_too(run: Run) -> None:
    listed = errors(run("serve", "--port", "70000", "--workers", "none", PORT="80"))
    assert [error.split()[0] for error in listed] == ["PORT", "ITEMSVC_WORKERS"]


def test_a_dotenv_file_in_the_folder_is_read(run: Run, database_url: str) -> None:
    Path(".env").write_text(f"DATABASE_URL='{database_url}'\n")
    assert run("migrate", "current").out == f"The schema is at {revisions.head()}.\n"


@pytest.mark.parametrize("command", ["serve", "migrate", "check", "openapi"])
def test_a_dotenv_file_with_an_open_quote_starts_nothing(run: Run, command: str) -> None:
    Path(".env").write_text('DATABASE_URL="postgresql://items:s3cret@db/items\n')
    result = run(command, PORT="70000")
    assert errors(result) == [".env, line 1, cannot be read", "PORT is '70000'; expected 0 to 65535"]
    assert result.out == ""


def test_a_dotenv_file_that_is_a_folder_starts_nothing(run: Run) -> None:
    Path(".env").mkdir()
    assert errors(run("check")) == [".env cannot be read: Is a directory"]
    assert not Path("items.db").exists()


@pytest.mark.parametrize(("name", "environ"), [(".env", {}), ("port", {"PORT_FILE": "port"})], ids=str)
def test_a_pipe_is_no_file(tmp_path: Path, name: str, environ: dict[str, str]) -> None:
    os.mkfifo(tmp_path / name)
    done = shell("check", cwd=tmp_path, environ=environ)
    assert done.returncode == 1
    assert "it is no regular file" in done.stderr


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@127.0.0.1:1/d?ssl=nonsense",
        "postgresql://u:p@a..b/d",
        "sqlite://u:p@/x.db",
        "sqlite:///x%00.db",
        "sqlite:///x.db?timeout=abc",
        "sqlite:///file:x.db?uri=true&mode=nonsense",
        "sqlite:///file:x?uri=true&mode=memory",
        "sqlite:///file://host/x.db?uri=true",
    ],
)
def test_a_url_that_a_driver_would_stumble_over_is_one_line(run: Run, url: str) -> None:
    result = run("check", DATABASE_URL=url)
    [error] = errors(result)
    assert error.startswith("DATABASE_URL ")
    assert (result.out, list(Path().iterdir())) == ("", [])


def test_a_url_without_a_user_is_one_line_where_the_process_has_no_name(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 2)
    [error] = errors(run("check", DATABASE_URL="postgresql://127.0.0.1:1/d"))
    assert error == "DATABASE_URL has no user; expected one, as this process's own has no name"
    result = run("check", DATABASE_URL="postgresql://127.0.0.1:1/d", PGUSER="items")
    assert result.err.startswith("The database postgresql+asyncpg://127.0.0.1:1/d cannot be used:")


@pytest.mark.parametrize(
    ("query", "environ"),
    [
        ("?ssl=verify-full", {}),
        ("?ssl=verify-ca", {}),
        ("", {"PGPORT": "abc"}),
        ("", {"PGSSLMODE": "nonsense"}),
        ("", {"PGSSLCERT": "missing"}),
        ("", {"PGSSLMINPROTOCOLVERSION": "nonsense"}),
    ],
    ids=str,
)
def test_what_the_environment_of_a_driver_lacks_is_printed_without_a_traceback(
    run: Run, tmp_path: Path, query: str, environ: dict[str, str]
) -> None:
    result = run("check", DATABASE_URL=f"postgresql://u:p@127.0.0.1/d{query}", HOME=str(tmp_path), **environ)
    assert result.code == 1
    assert result.err.startswith("The database postgresql+asyncpg://u:***@127.0.0.1/d")
    assert "the connection to the database failed: " in result.err


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Return a port where connections are accepted, and nothing is sent."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("command", ["check", "migrate"])
def test_a_database_that_cannot_be_reached_is_one_line_within_five_seconds(
    run: Run, silent_port: int, command: str
) -> None:
    for port in (1, silent_port):
        started = time.monotonic()
        result = run(command, DATABASE_URL=f"postgresql://items:s3cret@127.0.0.1:{port}/items")
        assert time.monotonic() - started < 5
        assert len(errors(result)) == 1
        assert result.err.startswith(f"The database postgresql+asyncpg://items:***@127.0.0.1:{port}/items cannot be")
        assert "s3cret" not in result.err + result.out


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("part", "value", "expected"),
    [
        ("password", "wrong", "password"),
        ("database", "nowhere", '"nowhere" does not exist'),
        ("username", "he", '"he"'),
    ],
)
def test_a_wrong_password_user_or_database_is_one_line(
    run: Run, database_url: str, part: str, value: str, expected: str
) -> None:
    changed: Mapping[str, str] = {part: value}
    url = make_url(database_url).set(**changed).render_as_string(hide_password=False)  # type: ignore[arg-type]
    [error] = errors(run("check", DATABASE_URL=url))
    assert expected in error


@pytest.mark.parametrize("command", ["serve", "migrate", "check"])
@pytest.mark.parametrize(
    ("path", "expected"),
    [("missing/items.db", "unable to open"), ("folder", "unable to open"), ("text.db", "not a database")],
)
def test_a_file_that_cannot_be_used_is_one_line(run: Run, command: str, path: str, expected: str) -> None:
    Path("folder").mkdir()
    Path("text.db").write_text("Once upon a time there was no database here. " * 100)
    result = run(command, DATABASE_URL=f"sqlite:///{path}", PORT="0")
    [error] = errors(result)
    assert expected in error
    assert path in result.err.splitlines()[0]


@pytest.mark.parametrize("arguments", [("serve", "--port", "0"), ("migrate",), ("migrate", "downgrade", "base")])
def test_a_file_that_may_only_be_read_is_one_line(run: Run, sqlite_file: Path, arguments: tuple[str, ...]) -> None:
    Path("items.db").write_bytes(sqlite_file.read_bytes() if "downgrade" in arguments else b"")
    [error] = errors(run(*arguments, DATABASE_URL="sqlite:///file:items.db?mode=ro&uri=true"))
    assert "readonly" in error


@pytest.mark.parametrize("shares", [False, True], ids=["alone", "as a server's worker does"])
def test_a_port_where_another_process_listens_is_one_line(run: Run, shares: bool) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shares)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        result = run("serve", "--port", port)
    [error] = errors(result)
    assert "in use" in error
    assert error.endswith("another process listens there; PORT= chooses another port, or 0 for any free one")
    assert port in result.err.splitlines()[0]
    assert not list(Path().iterdir())  # no database was made


@pytest.mark.parametrize("host", ["203.0.113.1", "x" * 70, "::1::"])
def test_an_address_that_is_not_ours_is_one_line(run: Run, host: str) -> None:
    result = run("serve", "--host", host, "--port", "0")
    assert len(errors(result)) == 1
    assert host in result.err


def test_the_module_hands_its_exit_code_to_the_shell(tmp_path: Path) -> None:
    done = shell("check", cwd=tmp_path, environ={"DATABASE_URL": "sqlite:///missing/items.db"})
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == ["- unable to open database file"]
