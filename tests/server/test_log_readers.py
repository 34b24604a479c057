"""A log that nobody reads stops nothing: lines are dropped and counted."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.observability.logging import QUEUED_BYTES_MAX
from service.server.listener import address
from tests.support.serving import ROOT
from tests.support.waiting import LIMIT_S, wait_until

LONG = "/" + "%F0%9F%92%A1" * 256  # a line of more than 1 KiB
PIPE_BYTES = 2**16
ENOUGH = (QUEUED_BYTES_MAX + PIPE_BYTES) // 1024 + 100
PROBE = {"x-request-id": "probe"}


@contextmanager
def unread(tmp_path: Path, **environ: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """Start a service that logs each request to a pipe, of which nothing is read."""
    _, port = address("127.0.0.1", 0)
    settings = {"ITEMSVC_ACCESS_LOG": "on", "ITEMSVC_DRAIN_DELAY_MS": "0", "PORT": str(port), **environ}
    with subprocess.Popen(
        [sys.executable, "-m", "service", "serve"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **settings},
        start_new_session=True,
    ) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=LIMIT_S) as client:
                wait_until(lambda: is_ready(client))
                yield process, client
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz", headers=PROBE).is_success
    except httpx.TransportError:
        return False


def read(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Read the log to its end; every line is whole."""
    assert process.stderr is not None
    return [json.loads(line) for line in process.stderr]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_log_that_nobody_reads_hinders_neither_requests_nor_the_stop(tmp_path: Path, number: signal.Signals) -> None:
    with unread(tmp_path) as (process, client):
        for _ in range(4 * PIPE_BYTES // 1024):
            assert client.get(LONG).status_code == 404
        assert client.get("/livez").is_success
        assert client.post("/items", json={"name": "lamp", "price": 1}).status_code == 201
        process.send_signal(number)
        assert process.wait(LIMIT_S) == 0
        assert any(line["message"] == "request" for line in read(process))


def test_lines_that_nobody_read_in_time_are_counted(tmp_path: Path) -> None:
    with unread(tmp_path) as (process, client):
        for _ in range(ENOUGH):
            assert client.get(LONG).status_code == 404
        assert process.stderr is not None
        found: list[dict[str, Any]] = []
        while not any("dropped" in line for line in found):  # the reader goes on
            found.append(json.loads(process.stderr.readline()))
        process.send_signal(signal.SIGTERM)
        found += read(process)
        assert process.wait(LIMIT_S) == 0
    [dropped] = [line for line in found if "dropped" in line]
    assert (dropped["level"], dropped["message"]) == ("warning", "log lines dropped, as nobody read them")
    requests = sum(line["message"] == "request" and line["request_id"] != "probe" for line in found)
    assert requests + dropped["dropped"] == ENOUGH


def test_a_reader_that_is_gone_is_no_error(tmp_path: Path) -> None:
    with unread(tmp_path, ITEMSVC_WORKERS="2") as (process, client):
        assert process.stderr is not None
        process.stderr.close()
        for _ in range(20):
            assert client.get("/nowhere").status_code == 404
        process.send_signal(signal.SIGHUP)
        for _ in range(20):
            assert client.get("/livez").is_success
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
