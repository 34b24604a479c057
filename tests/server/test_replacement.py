"""A worker that cannot serve takes nothing from one that does, and is tried again."""

import asyncio
import json
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy import make_url

from db import revisions
from tests.support.responses import execute
from tests.support.serving import ServiceProcess
from tests.support.waiting import wait_until

LAMP = {"name": "lamp", "price": 1.0}
NOT_REPLACED = "worker-1 is not replaced, as its successor cannot serve; the next attempt is in 5 s"
NOT_READY = "The successor of a worker is not ready"


@pytest.fixture
def service(database_url: str) -> Iterator[ServiceProcess]:
    with ServiceProcess(database_url) as service:
        yield service


def pids(service: ServiceProcess) -> set[int]:
    return {worker.pid for worker in service.workers}


def set_revision(database_url: str, revision: str) -> None:
    """Make the database look as if it had another schema: no worker that starts can serve."""
    asyncio.run(execute(database_url, f"UPDATE alembic_version SET version_num = '{revision}'"))  # noqa: S608


def assert_serves(service: ServiceProcess) -> None:
    for _ in range(20):
        with service.client() as client:  # a connection of its own, which any worker may accept
            assert client.post("/items", json=LAMP).status_code == 201


def test_a_successor_that_cannot_serve_displaces_nobody_and_is_tried_again(
    service: ServiceProcess, database_url: str, backend: str
) -> None:
    [before] = pids(service)
    set_revision(database_url, "another")
    service.send(signal.SIGHUP)
    wait_until(lambda: (NOT_REPLACED if backend == "sqlite" else NOT_READY) in service.log)
    assert_serves(service)
    assert before in pids(service)
    set_revision(database_url, revisions.head())
    wait_until(lambda: before not in pids(service) and len(pids(service)) == 1)
    assert_serves(service)
    service.send(signal.SIGTERM)
    assert service.wait() == 0, service.log


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_database_that_is_locked_while_a_worker_is_replaced_ends_nothing(
    service: ServiceProcess, database_url: str
) -> None:
    [before] = pids(service)
    with closing(sqlite3.connect(str(make_url(database_url).database), isolation_level=None)) as locking:
        locking.execute("BEGIN IMMEDIATE")
        service.send(signal.SIGHUP)
        wait_until(lambda: NOT_REPLACED in service.log)
        with service.client() as client:
            assert client.get("/items").status_code == 200
    assert before in pids(service)
    assert_serves(service)


def test_a_stop_does_not_wait_for_a_successor_that_cannot_serve(
    service: ServiceProcess, database_url: str, backend: str
) -> None:
    set_revision(database_url, "another")
    service.send(signal.SIGHUP)
    wait_until(lambda: (NOT_REPLACED if backend == "sqlite" else NOT_READY) in service.log)
    service.send(signal.SIGTERM)
    assert service.wait() == 0, service.log
    assert "Killing" not in service.log


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_worker_that_cannot_start_again_takes_no_connections_from_one_that_serves(database_url: str) -> None:
    with ServiceProcess(database_url, workers=2) as service:
        kept, victim = service.workers
        set_revision(database_url, "another")
        victim.kill()
        wait_until(lambda: service.log.count("cannot start; the next attempt is in 5 s") == 2)
        assert_serves(service)
        assert kept.pid in pids(service)
        set_revision(database_url, revisions.head())
        wait_until(lambda: service.log.count("Started worker-") == 3)
        assert_serves(service)
        service.send(signal.SIGTERM)
        assert service.wait() == 0, service.log


@contextmanager
def no_more_files(service: ServiceProcess) -> Iterator[None]:
    """Let the parent of the workers open no file more, so that it can start none."""
    parent = psutil.Process(service.process.pid)
    soft, hard = parent.rlimit(psutil.RLIMIT_NOFILE)
    parent.rlimit(psutil.RLIMIT_NOFILE, (parent.num_fds(), hard))
    try:
        yield
    finally:
        parent.rlimit(psutil.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process")
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_machine_without_another_process_or_file_ends_nothing(database_url: str) -> None:
    with ServiceProcess(database_url, workers=2) as service:
        kept, victim = service.workers
        with no_more_files(service):
            service.send(signal.SIGHUP)
            wait_until(lambda: "worker-1 is not replaced: Too many open files" in service.log)
            assert_serves(service)
            victim.kill()
            wait_until(lambda: "cannot be started: Too many open files; the next attempt is in 5 s" in service.log)
            assert_serves(service)
            assert kept.pid in pids(service)
        wait_until(lambda: service.log.count("Started worker-") >= 4)
        assert_serves(service)
        service.send(signal.SIGTERM)
        assert service.wait() == 0, service.log


def test_a_service_none_of_whose_workers_can_start_ends(tmp_path: Path) -> None:
    folder = tmp_path / "items"
    folder.mkdir()
    with ServiceProcess(f"sqlite:///{folder / 'items.db'}", workers=2) as service:
        workers = service.workers
        folder.rename(tmp_path / "lost")
        for worker in workers:
            worker.kill()
        assert service.wait() == 1
        assert any(json.loads(line)["level"] == "error" for line in service.log.splitlines())


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_worker_that_dies_while_another_is_replaced_is_started_anew(database_url: str) -> None:
    with ServiceProcess(database_url, workers=2, ITEMSVC_DRAIN_DELAY_MS="3000") as service:
        before = pids(service)
        service.send(signal.SIGHUP)
        wait_until(lambda: service.log.count("Started worker-") == 3)  # the first one drains now
        [dead] = [worker for worker in service.workers if f"Spawned worker-2 with PID {worker.pid}" in service.log]
        dead.kill()
        wait_until(lambda: before.isdisjoint(pids(service)) and len(pids(service)) == 2)
        assert_serves(service)
        service.send(signal.SIGINT)  # without a delay
        assert service.wait() == 0, service.log
        assert service.log.count("Replacing worker-") == 1
