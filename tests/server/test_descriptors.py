"""Few file descriptors: the database's connections come first, clients wait to be accepted, and a line says so."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.responses import execute
from tests.support.serving import ROOT, ServiceProcess
from tests.support.waiting import wait_until
from tests.support.wire import connected, open_connections

LAMP = {"name": "lamp", "price": 1.0}
FILES, IDLE = 200, 400
END_SESSIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'items-service' AND pid <> pg_backend_pid()
"""


def test_idle_clients_take_no_descriptor_from_the_database(database_url: str, backend: str) -> None:
    with ServiceProcess(database_url, files_max=str(FILES)) as service, service.client() as client, ExitStack() as idle:
        assert client.get("/livez").is_success  # accepted before the others
        for _ in range(IDLE):
            idle.enter_context(connected(service))
        wait_until(lambda: open_connections(service) > FILES // 4)
        if backend == "postgresql":
            asyncio.run(execute(database_url, END_SESSIONS))
        wait_until(lambda: client.get("/readyz").is_success)
        for _ in range(10):
            keyed = client.post("/items", json=LAMP, headers={"idempotency-key": f'"{uuid4()}"'})
            assert keyed.status_code == 201
            assert client.get(keyed.headers["location"]).is_success
        assert service.log.count("A worker accepts at most 106 connections, as a process may open 200 files") == 1
        assert '"level":"error"' not in service.log
        service.send(signal.SIGTERM)
        assert service.wait() == 0, service.log
        assert "Killing" not in service.log


@pytest.mark.parametrize(
    ("files", "workers", "error"), [(100, 1, "a worker needs 110"), (256, 64, "64 workers need 320")]
)
def test_a_limit_that_leaves_too_little_stops_the_start(tmp_path: Path, files: int, workers: int, error: str) -> None:
    shell = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", sys.executable, "-m", "service", "serve"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PORT": "0", "ITEMSVC_WORKERS": str(workers)}
    done = subprocess.run(shell, check=False, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"- a process may open {files} files; {error} (ulimit -n)"
