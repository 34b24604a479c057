"""A service under load for all tests of this folder."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.monitoring import load
from tests.monitoring.watched import SEEN, Watched, watched


@pytest.fixture(scope="package")
def loaded(sqlite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Return a service that has had every kind of request, and errors, and was scraped meanwhile."""
    file = tmp_path_factory.mktemp("loaded") / "items.db"
    shutil.copyfile(sqlite_file, file)
    with watched(f"sqlite+aiosqlite:///{file}") as found:
        found.crowd(load.visit, load.err, until=SEEN)
        yield found
