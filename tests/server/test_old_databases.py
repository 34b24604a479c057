"""A database system that is too old: every command ends at once, and says which version it needs."""

import pytest

from db.engines.postgresql import PostgreSQL
from tests.server.test_command_line import Run, errors, run

__all__ = ["run"]  # a fixture

COMMANDS = [["check"], ["migrate"], ["migrate", "current"], ["serve", "--port", "0"]]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_old_sqlite_ends_every_command_with_both_versions(
    run: Run, database_url: str, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 34, 1))
    result = run(*command, DATABASE_URL=database_url)
    assert errors(result) == ["SQLite 3.34.1 is too old: 3.35.0 or newer is needed"]
    assert "cannot be used:" in result.err


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("command", COMMANDS[:3], ids=" ".join)
def test_so_does_an_old_postgresql(
    run: Run, database_url: str, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr(PostgreSQL, "version_min", (99, 1))
    [error] = errors(run(*command, DATABASE_URL=database_url))
    assert error.startswith("PostgreSQL 1")
    assert error.endswith(" is too old: 99.1 or newer is needed")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_the_oldest_sqlite_that_is_new_enough_is_no_error(
    run: Run, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 35, 0))
    assert run("check", DATABASE_URL=database_url).code == 0
