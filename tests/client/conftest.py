"""A service in processes of its own, which the tests here share, and clients of it."""

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex

import pytest

from items_client import Client
from tests.conftest import POSTGRESQL
from tests.support.postgres import Databases
from tests.support.serving import ServiceProcess


@pytest.fixture(scope="package", params=["sqlite", POSTGRESQL])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Return a service that other tests use, too."""
    with ExitStack() as opened:
        if request.param == POSTGRESQL:
            databases: Databases = request.getfixturevalue("postgres_databases")
            url = opened.enter_context(databases.fresh())
        else:
            migrated: Path = request.getfixturevalue("sqlite_file")
            url = f"sqlite+aiosqlite:///{shutil.copy(migrated, tmp_path_factory.mktemp('client') / 'items.db')}"
        yield opened.enter_context(ServiceProcess(url))


@pytest.fixture
async def caller(service: ServiceProcess) -> AsyncIterator[Client]:
    """Return a client of the service."""
    async with Client(service.url) as client:
        yield client


@pytest.fixture
def prefix() -> str:
    """Return what the names of a test's own rows begin with."""
    return f"{token_hex(4)}-"
