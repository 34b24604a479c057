"""What the processes of the service have in memory, and what they share."""

import multiprocessing
import re
import sys

import pytest
from sqlalchemy.sql.compiler import SQLCompiler

from service.app import create_app
from service.settings import Settings
from tests.support.serving import ServiceProcess

FORKS = sys.platform == "linux" and multiprocessing.get_start_method() == "fork"

IMPORTED = re.compile(r"^import time: .+\| +(\w+)", re.MULTILINE)
# They are for changing a schema and for callers with JWTs: 8 and 13 MiB that others do without.
FOR_OTHERS = {"alembic", "cryptography", "joserfc", "mako"}


@pytest.mark.skipif(not FORKS, reason="what is spawned shares less")
def test_workers_share_with_their_parent_what_it_has_imported(database_url: str) -> None:
    with ServiceProcess(database_url, workers=2) as service:
        for worker in service.workers:
            memory = worker.memory_full_info()
            assert memory.uss < 0.4 * memory.rss


def test_nothing_is_imported_for_what_is_not_used(database_url: str) -> None:
    with ServiceProcess(database_url, workers=2, PYTHONPROFILEIMPORTTIME="1") as service, service.client() as client:
        item = client.post("/items", json={"name": "lamp", "price": 1}).json()
        assert client.get("/items").json() == [client.get(f"/items/{item['id']}").json()]
        assert client.get("/readyz").is_success
        imported = set(IMPORTED.findall(service.log))  # by the parent, and by the workers
        assert {"sqlalchemy", "granian", "uvloop"} <= imported
        assert not imported & FOR_OTHERS


def test_no_statement_is_compiled_before_it_runs(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[SQLCompiler] = []
    monkeypatch.setattr(SQLCompiler, "__init__", lambda self, *_, **_options: compiled.append(self))
    create_app(settings)
    assert not compiled
