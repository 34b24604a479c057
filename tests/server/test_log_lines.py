"""The lines of the log: which request they belong to, their form, and from which level on there are any."""

import asyncio
import json
import logging
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from service.http.middleware import RequestMiddleware
from service.observability.current_request import SCOPE
from service.observability.log_lines import JSONLines, RequestFields, TextLines
from service.observability.logging import log_settings
from service.server.listener import address
from service.worker_state import WorkerState
from tests.server.test_log_readers import is_ready
from tests.support.serving import ROOT, ServiceProcess
from tests.support.waiting import LIMIT_S, until, wait_until

TRACE = "0af7651916cd43dd8448eb211c80319c"
OURS = logging.getLogger("db.any")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    """Return what reads the lines that were logged so far, with the fields that every handler adds."""
    caplog.set_level(logging.INFO)
    caplog.handler.addFilter(RequestFields())
    return lambda: [json.loads(JSONLines().format(record)) for record in caplog.records if record.name != "asyncio"]


async def serve(app: Callable[[Scope, Receive, Send], Any], **scope: Any) -> list[Message]:
    """Return what a request that an application serves is sent, under the outermost middleware."""

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    sent: list[Message] = []
    middleware = RequestMiddleware(
        app,
        worker_state=WorkerState(),
        metrics=None,
        requests_max=9,
        access_log=False,
        slow_request_ms=60_000,
        debug=False,
    )
    await middleware({"type": "http", "method": "GET", "path": "/", "headers": [], **scope}, receive, send)
    return sent


async def test_what_is_logged_anywhere_while_a_request_is_served_has_its_ids(
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        OURS.info("here")
        SCOPE.set(scope)  # as writes do
        await asyncio.to_thread(OURS.info, "in a thread")
        await asyncio.create_task(in_task())
        OURS.info("itself", extra={"request_id": "another"})

    async def in_task() -> None:
        OURS.info("in a task")

    parent = f"00-{TRACE}-b7ad6b7169203331-00".encode()
    await serve(app, headers=[(b"x-request-id", b"one"), (b"traceparent", parent)])
    ids = [(line["message"], line["request_id"], line["trace_id"]) for line in lines()]
    assert ids == [(text, "one", TRACE) for text in ("here", "in a thread", "in a task")] + [
        ("itself", "another", TRACE)
    ]


async def test_what_a_request_leaves_behind_logs_without_its_ids(lines: Callable[[], list[dict[str, Any]]]) -> None:
    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        SCOPE.set(scope)
        asyncio.get_running_loop().call_later(0, OURS.info, "later")

    await asyncio.create_task(serve(app))
    await until(lines)
    OURS.info("outside")
    assert [(line["message"], "request_id" in line) for line in lines()] == [("later", False), ("outside", False)]


def record(message: str, **fields: Any) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "service", "levelname": "WARNING", "msg": message, "created": 1e9})
    vars(made).update(fields)
    return made


def test_a_line_for_people_begins_with_its_time_and_ends_with_its_fields() -> None:
    made = record("request", path="/items/1", status=200, error='it\'s "late"', ids=[1, None])
    assert TextLines().format(made) == (
        "2001-09-09T01:46:40.000Z warning service: request  "
        'path=/items/1 status=200 error="it\'s \\"late\\"" ids=[1,null]'
    )
    assert TextLines().format(record("started")) == "2001-09-09T01:46:40.000Z warning service: started"


def test_nothing_in_a_line_for_people_steers_a_terminal_or_looks_like_another_line() -> None:
    error = ValueError("\x1b]0;title\x07\nsecond")
    raised = type(error), error, None
    made = record("\x1b[2J\x9b1m\n2001 forged", path="/\x1b[31m\u202e\n/", exc_info=raised)
    first, *others = TextLines().format(made).split("\n")
    assert first.endswith("service: \\x1b[2J\\x9b1m")
    assert others[0].startswith('    2001 forged  path="/\\u001b[31m\\u202e\\n/"')
    assert all(line.startswith("    ") and line.isprintable() for line in others)
    assert others[-2:] == ["    ValueError: \\x1b]0;title\\x07", "    second"]


@pytest.mark.parametrize("lines_class", [JSONLines, TextLines])
def test_hashes_of_passwords_are_left_out_of_every_form(lines_class: type[logging.Formatter]) -> None:
    text = lines_class().format(record("$argon2id$v=19$m=8,t=1,p=1$c2FsdA$aGFzaA", row="$argon2id$v=19$aGFzaA"))
    assert "argon2" not in text
    assert text.count("[password hash]") == 2


def form(**settings: str) -> object:
    return log_settings(debug=False, **settings)["formatters"]["lines"]["()"]


def test_the_form_is_that_of_the_setting_whatever_standard_error_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_terminal in (True, False):
        monkeypatch.setattr("service.observability.logging.is_terminal", lambda is_terminal=is_terminal: is_terminal)
        assert form(log_format="json") is JSONLines
        assert form(log_format="text") is TextLines
        assert form(log_format="auto") is form() is (TextLines if is_terminal else JSONLines)


@contextmanager
def started(folder: Path, stderr: int, **environ: str) -> Iterator[httpx.Client]:
    """Serve with a file as standard error, until leaving the block."""
    _, port = address("127.0.0.1", 0)
    settings = {"ITEMSVC_DRAIN_DELAY_MS": "0", "PORT": str(port), **environ}
    python = [sys.executable, "-m", "service", "serve"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **settings}
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=LIMIT_S) as client,
        subprocess.Popen(python, stderr=stderr, cwd=folder, env=environ, start_new_session=True) as process,
    ):
        try:
            wait_until(lambda: process.poll() is not None or is_ready(client))
            yield client
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT_S) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def test_a_terminal_is_given_lines_for_people(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb"):
        with os.fdopen(theirs, "rb"), started(tmp_path, theirs, ITEMSVC_ACCESS_LOG="on") as client:
            client.get("/nowhere", headers={"x-request-id": "one"})
        shown = os.read(ours, 65_536).decode()
    lines = [line.partition(" ")[2] for line in shown.split("\r\n")]
    assert any(line.startswith("info    service.server.supervisor: Listening at: http://127.0.0.1") for line in lines)
    [request] = [line for line in lines if "/nowhere" in line]
    assert request.startswith(
        "info    service: request  request_id=one method=GET path=/nowhere status=404 duration_ms="
    )


def test_below_the_level_of_the_setting_nothing_is_logged(tmp_path: Path) -> None:
    settings = {"ITEMSVC_LOG_LEVEL": "warning", "ITEMSVC_SLOW_REQUEST_MS": "1"}
    with (tmp_path / "log").open("wb") as log, started(tmp_path, log.fileno(), **settings) as client:
        client.post("/items", json=[{"name": "lamp", "price": 1}] * 1000)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {line["level"] for line in lines} == {"warning"}
    assert "/items" in [line.get("path") for line in lines if line["message"] == "request"]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_concurrent_requests_have_each_its_own_ids_in_a_worker(database_url: str) -> None:
    async def ask(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=LIMIT_S) as client:
            await asyncio.gather(*(client.get("/items", headers=sent(number)) for number in range(1, 65)))

    def sent(number: int) -> dict[str, str]:
        return {"x-request-id": f"n{number}", "traceparent": f"00-{number:032x}-{number:016x}-00"}

    with ServiceProcess(database_url, ITEMSVC_ACCESS_LOG="on") as service:
        asyncio.run(ask(service.url))
        wait_until(lambda: service.log.count('"request_id":"n') == 64)
        found = [json.loads(line) for line in service.log.splitlines() if '"request_id":"n' in line]
    assert {(line["request_id"], line["trace_id"]) for line in found} == {
        (f"n{number}", f"{number:032x}") for number in range(1, 65)
    }
