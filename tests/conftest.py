"""What the tests stand on: a database of their own for each, on both backends, and a client of the whole service."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import httpx
import pytest

from db.engines.engine import open_database
from db.migrate import upgrade
from service.settings import Settings
from tests.support.postgres import Databases, PostgresServer
from tests.support.responses import PATIENT, serving
from tests.support.shared_sql import shared_sql

POSTGRESQL = "postgresql"
SERVER_VARIABLE = "TEST_DATABASE_URL"
ADDRESS_KEY = "postgres_address"


class Worker(Protocol):
    """A worker of pytest-xdist, as its parent sees it."""

    workerinput: dict[str, Any]


class SharedPostgres:
    """One PostgreSQL for all workers of pytest-xdist, owned by their parent, and started if a test wants it."""

    def __init__(self) -> None:
        self._resources = ExitStack()
        self._address = Path(self._resources.enter_context(TemporaryDirectory())) / "address"

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Worker) -> None:
        """Give a worker the server's address."""
        node.workerinput[ADDRESS_KEY] = str(self._address)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Start the server: no test is handed out before every worker has collected."""
        is_wanted = SERVER_VARIABLE not in os.environ and any(POSTGRESQL in test for test in ids)
        if is_wanted and not self._address.exists():
            self._address.write_text(self._resources.enter_context(PostgresServer()).url())

    def pytest_unconfigure(self) -> None:
        """Stop it."""
        self._resources.close()


def pytest_configure(config: pytest.Config) -> None:
    """Share a server between workers, if there are any."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SharedPostgres())


def migrate(url: str) -> None:
    """Return an empty database the current schema."""

    async def run() -> None:
        database = open_database(url)
        try:
            await upgrade(database)
        finally:
            await database.close()

    asyncio.run(run())


@pytest.fixture(scope="session", autouse=True)
def sql() -> Iterator[None]:
    """Make the SQL of a table once, and not for every test."""
    with shared_sql():
        yield


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run async tests on the loop of the service's workers."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return a PostgreSQL server: TEST_DATABASE_URL's, the one shared by all workers, or this process's own."""
    address = Path(getattr(request.config, "workerinput", {}).get(ADDRESS_KEY, "-"))
    if SERVER_VARIABLE in os.environ:
        yield os.environ[SERVER_VARIABLE]
    elif address.exists():
        yield address.read_text()
    else:
        with PostgresServer() as server:
            yield server.url()


@pytest.fixture(scope="session")
def postgres_databases(postgres_url: str) -> Iterator[Databases]:
    """Migrate one database on PostgreSQL, to be copied."""
    with Databases(postgres_url, migrate) as databases:
        yield databases


@pytest.fixture(scope="session")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrate one SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    migrate(f"sqlite+aiosqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", POSTGRESQL])
def backend(request: pytest.FixtureRequest) -> str:
    """Name the kind of database; `@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)` chooses one."""
    return str(request.param)


@pytest.fixture
def database_url(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Return a migrated database that nobody else uses."""
    if backend == POSTGRESQL:
        databases: Databases = request.getfixturevalue("postgres_databases")
        with databases.fresh() as url:
            yield url
    else:
        shutil.copyfile(request.getfixturevalue("sqlite_file"), tmp_path / "items.db")
        yield f"sqlite+aiosqlite:///{tmp_path / 'items.db'}"


@pytest.fixture
def empty_database_url(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Return a database that nobody has migrated."""
    if backend == POSTGRESQL:
        databases: Databases = request.getfixturevalue("postgres_databases")
        with databases.empty() as url:
            yield url
    else:
        yield f"sqlite+aiosqlite:///{tmp_path / 'empty.db'}"


@pytest.fixture
def settings(request: pytest.FixtureRequest, database_url: str) -> Settings:
    """Return the settings of a service on the test's own database, with the values a test was parametrized with."""
    return Settings(database_url=database_url, **{**PATIENT, **getattr(request, "param", {})})


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of a whole service that is up."""
    async with serving(settings) as client:
        yield client
