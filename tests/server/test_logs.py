"""The log: what failed and what was slow, every request if that is wanted, and never what is not to be logged."""

import asyncio
import json
import logging
import time
from collections import Counter
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from service.http.middleware import RequestMiddleware
from service.observability.log_lines import JSONLines
from service.observability.logging import log_settings
from service.settings import Settings
from service.worker_state import WorkerState
from tests.api.test_problems import SECRET
from tests.support.responses import create_item, execute


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Keep everything from the level on that is logged when the service runs."""
    caplog.set_level(log_settings(debug=False)["root"]["level"])
    return caplog


def lines(log: pytest.LogCaptureFixture, logger: str = "service") -> list[dict[str, Any]]:
    """Return what a logger said, as it is written."""
    written = [JSONLines().format(record) for record in log.records if record.name == logger]
    assert not any("\n" in line for line in written)
    return [json.loads(line) for line in written]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("settings", [{"slow_request_ms": 600_000}], indirect=True)
async def test_a_request_that_is_served_in_time_leaves_no_line(
    client: httpx.AsyncClient, log: pytest.LogCaptureFixture
) -> None:
    await create_item(client)
    for path in ("/items", "/items/2", "/nowhere", "/items?limit=0"):
        await client.get(path)
    assert lines(log) == []


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("settings", [{"access_log": True}], indirect=True)
async def test_the_access_log_has_a_line_for_every_request_without_its_query(
    client: httpx.AsyncClient, log: pytest.LogCaptureFixture
) -> None:
    calls = [
        ("POST", "/items", 415),
        ("GET", "/items?name_prefix=s3cret", 200),
        ("HEAD", "/items/1", 404),
        ("BREW", "/items", 405),
        ("GET", "/nowhere/%0A%22%F0%9F%92%A1", 404),
    ]
    for method, url, _ in calls:
        await client.request(method, url, headers={"x-request-id": method})
    found = lines(log)
    assert [(line["method"], line["status"], line["request_id"]) for line in found] == [
        (method, status, method) for method, _, status in calls
    ]
    assert [line["path"] for line in found] == ["/items", "/items", "/items/1", "/items", '/nowhere/\n"\U0001f4a1']
    for line in found:
        assert (line["level"], line["logger"], line["message"]) == ("info", "service", "request")
        assert 0 < line["duration_ms"] < 60_000
        assert line["time"].endswith("Z")
        assert SECRET not in str(line)


@pytest.mark.parametrize("settings", [{"slow_request_ms": 1}], indirect=True)
async def test_a_slow_request_leaves_a_line(client: httpx.AsyncClient, log: pytest.LogCaptureFixture) -> None:
    await client.post("/items", json=[{"name": "lamp", "price": 1}] * 1000)
    [line] = [line for line in lines(log) if line["method"] == "POST"]
    assert (line["path"], line["status"]) == ("/items", 201)
    assert line["duration_ms"] > 1


@pytest.mark.parametrize("settings", [{"debug": False}, {"debug": True}], indirect=True, ids=["", "debug"])
async def test_a_failure_is_logged_with_its_request_id_and_in_debugging_with_where_it_was(
    client: httpx.AsyncClient, log: pytest.LogCaptureFixture, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_body: object) -> None:
        raise RuntimeError(SECRET)  # no code of a database is a plain 500

    await create_item(client)
    monkeypatch.setattr("service.http.collection.given", fail)
    response = await client.patch("/items/1", json={"price": 2}, headers={"x-request-id": "abc"})
    assert (response.status_code, response.json()["request_id"]) == (500, "abc")
    [line] = lines(log)
    assert (line["level"], line["message"]) == ("error", "request failed")
    assert (line["method"], line["path"], line["status"], line["request_id"]) == ("PATCH", "/items/1", 500, "abc")
    assert SECRET in line["error"]
    assert ("traceback" in line) == settings.debug
    assert not settings.debug or "service/http/collection.py" in line["traceback"]


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_a_service_that_is_unavailable_leaves_a_warning_with_the_reason(
    client: httpx.AsyncClient, database_url: str, log: pytest.LogCaptureFixture
) -> None:
    await execute(database_url, "ALTER TABLE items RENAME COLUMN price TO amount")
    response = await client.get("/items/1")
    [line] = lines(log)
    assert (line["level"], line["status"], line["request_id"]) == ("warning", 503, response.headers["x-request-id"])
    assert "price" in line["error"]


@pytest.mark.parametrize("settings", [{"debug": False}, {"debug": True}], indirect=True, ids=["", "debug"])
async def test_debugging_shows_the_sql_and_its_values(
    client: httpx.AsyncClient, log: pytest.LogCaptureFixture, settings: Settings
) -> None:
    await create_item(client, name="a name to look for")
    await client.get("/items")
    message = "".join(line["message"] for line in lines(log, "db.engines.database"))
    shown = "INSERT INTO items" in message, "FROM items" in message, "a name to look for" in message
    assert shown == (settings.debug,) * 3


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("settings", [{"debug": True}], indirect=True)
async def test_debugging_shows_the_statement_that_runs_for_one_row(
    client: httpx.AsyncClient, log: pytest.LogCaptureFixture
) -> None:
    await create_item(client, name="alone")
    await client.post("/items", json=[{"name": "one", "price": 1}, {"name": "two", "price": 2}])
    one, several = (line["message"] for line in lines(log, "db.engines.database") if "INSERT" in line["message"])
    assert "'alone'" in one
    assert "unnest" not in one
    assert "['one', 'two']" in several or "('one', 'two')" in several
    assert "unnest" in several


@pytest.mark.parametrize("debug", [False, True])
def test_debugging_lets_sqlalchemy_speak(debug: bool) -> None:
    settings = log_settings(debug=debug)
    assert settings["loggers"]["sqlalchemy.engine"] == {"level": "INFO" if debug else "WARNING"}


def test_a_line_is_json_whatever_is_in_it() -> None:
    with pytest.raises(ValueError, match="lamp") as caught:
        int("no\nlamp")
    raised = (caught.type, caught.value, caught.tb)
    record = logging.makeLogRecord({"name": "x", "msg": "%s\n", "args": ("a",), "exc_info": raised})
    record.fields = {"kind": type, 1: float("nan")}
    line = json.loads(JSONLines().format(record))
    assert line["message"] == "a\n"
    assert line["fields"] == {"kind": "<class 'type'>", "1": None}
    assert line["traceback"].startswith("Traceback (most recent call last):\n")


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("settings", [{"queue_length_max": 1}], indirect=True)
async def test_requests_that_are_refused_by_overload_share_a_line(
    client: httpx.AsyncClient, log: pytest.LogCaptureFixture
) -> None:
    started = time.monotonic()
    responses = await asyncio.gather(*(client.get(f"/items?limit={limit}") for limit in range(1, 101)))
    refused = sum(response.status_code == 503 for response in responses)
    assert refused > 50
    found = [line for line in lines(log) if line["message"] != "request"]
    assert len(found) <= 1 + (time.monotonic() - started)
    assert {(line["level"], line["message"]) for line in found} == {("warning", "requests refused")}
    assert found[0]["refused"] == 1
    assert "wait for the database" in found[0]["error"]


async def test_half_a_response_is_not_finished_as_if_it_were_whole(log: pytest.LogCaptureFixture) -> None:
    async def broken(_scope: Scope, _receive: Receive, send: Send) -> None:
        _scope["status"] = 200
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("the rest is missing")

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message["type"])

    sent: list[str] = []
    middleware = RequestMiddleware(
        broken,
        worker_state=WorkerState(),
        metrics=None,
        requests_max=1,
        access_log=True,
        slow_request_ms=1000,
        debug=False,
    )
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with pytest.raises(ValueError, match="the rest is missing"):
        await middleware(scope, receive, send)
    assert sent == ["http.response.start"]
    failed, ended = lines(log)
    assert failed["error"] == "ValueError('the rest is missing')"
    assert (ended["message"], ended["status"]) == ("request", 200)


@pytest.mark.parametrize("settings", [{"access_log": True, "requests_max": 1}], indirect=True)
async def test_requests_that_are_refused_have_a_line_in_the_access_log(
    client: httpx.AsyncClient, log: pytest.LogCaptureFixture
) -> None:
    responses = await asyncio.gather(*(client.get("/items") for _ in range(5)))
    logged = Counter(line["status"] for line in lines(log) if line["message"] == "request")
    assert logged == Counter(response.status_code for response in responses)
    assert logged[503]
