"""Traces: which requests are recorded, what their spans say, and how batches are linked to the requests they served."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from service.observability.log_lines import JSONLines, RequestFields
from service.settings import Settings
from tests.support.collector import Collector, Received, collecting
from tests.support.responses import create_batch, create_item, execute, serving

PARENT = "b7ad6b7169203331"
CLOCKS_NS = 100_000  # by which two readings of two clocks may differ
ON_SQLITE = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Return a collector that the service of this process finds."""
    with collecting() as collector:
        for name, value in collector.environ.items():
            monkeypatch.setenv(name, value)
        yield collector


@asynccontextmanager
async def traced(settings: Settings, ratio: float = 0.0) -> AsyncIterator[httpx.AsyncClient]:
    """Serve with traces; when the block is left, the collector has them all."""
    async with serving(replace(settings, traces=True, trace_ratio=ratio)) as client:
        yield client


def part_of(number: int, *, sampled: bool = True) -> dict[str, str]:
    """Return the header of a request that is part of a trace."""
    return {"traceparent": f"00-{number:032x}-{PARENT}-0{int(sampled)}"}


def only(spans: list[Received], **fields: Any) -> Received:
    """Return the one span that has these fields."""
    [span] = [span for span in spans if all(getattr(span, name) == value for name, value in fields.items())]
    return span


async def test_a_request_its_wait_and_its_statement_are_spans_of_the_clients_trace(
    settings: Settings, collector: Collector, backend: str
) -> None:
    async with traced(settings) as client:
        await create_item(client)
        headers = {**part_of(7), "tracestate": "congo=t61rcWkgMzE", "user-agent": "test/1", "x-request-id": "one"}
        assert (await client.get("/items/1?s3cret=1", headers=headers)).status_code == 400
        assert (await client.get("/items/1", headers=headers)).status_code == 200
    request = only(
        collector.of_kind("server"),
        name="GET /items/{id}",
        is_error=False,
        attributes={
            "http.request.method": "GET",
            "http.response.status_code": 200,
            "http.route": "/items/{id}",
            "itemsvc.request.id": "one",
            "network.protocol.version": "1.1",
            "url.path": "/items/1",
            "url.scheme": "http",
            "user_agent.original": "test/1",
        },
    )
    assert (request.trace_id, request.parent_id, request.state) == (f"{7:032x}", PARENT, "congo=t61rcWkgMzE")
    statement = only(collector.spans, kind="client", name="get items")
    wait = only(collector.spans, kind="internal", name="wait items get")
    for span in (statement, wait):
        assert (span.trace_id, span.parent_id, span.is_error) == (request.trace_id, request.span_id, False)
    assert request.started <= wait.started <= wait.ended == statement.started <= statement.ended <= request.ended
    assert statement.links == [(request.trace_id, request.span_id)]
    assert wait.links == [(statement.trace_id, statement.span_id)]
    assert statement.attributes == {
        "db.system.name": backend,
        "db.collection.name": "items",
        "db.operation.name": "get",
        "db.operation.batch.size": 1,
    }
    assert len(collector.spans) == 4  # the refused request has one, and that without a trace none
    assert "s3cret" not in str(collector.spans)


@ON_SQLITE
async def test_a_batch_is_linked_to_every_request_that_it_served(settings: Settings, collector: Collector) -> None:
    async with traced(settings) as client:
        await create_batch(client, [{"name": "lamp", "price": 1}] * 200)
        calls = [client.get(f"/items/{number}", headers=part_of(number)) for number in range(1, 201)]
        same = [client.get("/items/1", headers=part_of(number)) for number in range(201, 211)]
        plain = [client.get(f"/items/{number}") for number in range(1, 201)]
        unwanted = [client.get("/items/1", headers=part_of(999, sampled=False))]
        assert {response.status_code for response in await asyncio.gather(*calls, *same, *plain, *unwanted)} == {200}
    requests = {(span.trace_id, span.span_id) for span in collector.of_kind("server")}
    assert {trace_id for trace_id, _ in requests} == {f"{number:032x}" for number in range(1, 211)}
    statements = [span for span in collector.of_kind("client") if span.name == "get items"]
    links = [link for span in statements for link in span.links]
    assert sorted(links) == sorted(requests)
    assert max(len(span.links) for span in statements) > 128  # the SDK's own bound
    waits = collector.of_kind("internal")
    assert {(span.trace_id, span.parent_id) for span in waits} == requests
    assert {link for span in waits for link in span.links} == {(span.trace_id, span.span_id) for span in statements}
    assert all(span.links[0] == (span.trace_id, span.parent_id) for span in statements)


@ON_SQLITE
async def test_only_requests_whose_client_or_ratio_says_so_are_traced(settings: Settings, collector: Collector) -> None:
    async with traced(settings, ratio=1.0) as client:
        await client.get("/items", headers=part_of(1, sampled=False))
        await client.get("/livez")
        await client.get("/items", headers={"traceparent": "nonsense"})
    async with traced(settings, ratio=0.0) as client:
        await client.get("/items")
        await client.get("/livez", headers=part_of(2))
    of_ratio, of_client = collector.of_kind("server")
    assert (of_ratio.name, of_ratio.parent_id) == ("GET /items", "")
    assert (of_client.name, of_client.trace_id) == ("GET /livez", f"{2:032x}")


@ON_SQLITE
async def test_what_clients_send_makes_no_names_of_spans(settings: Settings, collector: Collector) -> None:
    async with traced(settings, ratio=1.0) as client:
        await client.request("BREW", "/items/1")
        await client.get("/nowhere/" + "x" * 300)
    brew, nowhere = collector.of_kind("server")
    assert (brew.name, brew.attributes["http.request.method"]) == ("HTTP /items/{id}", "_OTHER")
    assert brew.attributes["http.request.method_original"] == "BREW"
    assert (nowhere.name, len(nowhere.attributes["url.path"])) == ("GET", 256)
    assert "http.route" not in nowhere.attributes
    assert [span.attributes["http.response.status_code"] for span in (brew, nowhere)] == [405, 404]
    assert not brew.is_error
    assert not nowhere.is_error


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_a_statement_that_fails_is_an_error_in_its_own_span_and_the_requests(
    settings: Settings, collector: Collector, database_url: str
) -> None:
    async with traced(settings) as client:
        await execute(database_url, "ALTER TABLE items RENAME COLUMN price TO amount")
        assert (await client.get("/items/1", headers=part_of(3))).status_code == 503
    request = only(collector.of_kind("server"))
    assert (request.is_error, request.attributes["error.type"]) == (True, "503")
    statements, waits = collector.of_kind("client"), collector.of_kind("internal")
    assert {(span.is_error, span.attributes["error.type"]) for span in statements} == {(True, "connection_lost")}
    assert len(statements) == len(waits) > 1  # it is tried on each connection
    for before, wait in zip(statements, waits[1:], strict=False):
        assert before.ended <= wait.started + CLOCKS_NS <= wait.ended + CLOCKS_NS


@ON_SQLITE
async def test_a_row_that_is_not_there_is_no_error_of_the_statement(settings: Settings, collector: Collector) -> None:
    async with traced(settings) as client:
        assert (await client.get("/items/1", headers=part_of(3))).status_code == 404
    assert [span.is_error for span in collector.spans] == [False] * 3


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_the_last_run_of_a_statement_says_which_error_it_was(
    settings: Settings, collector: Collector, database_url: str
) -> None:
    fail = (
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no' USING ERRCODE = 'XX000'; END $$"
    )
    async with traced(settings) as client:
        await execute(database_url, fail)
        await execute(database_url, "CREATE TRIGGER fail BEFORE INSERT ON items EXECUTE FUNCTION fail()")
        lamp = {"name": "lamp", "price": 1}
        assert (await client.post("/items", json=lamp, headers=part_of(3))).status_code == 503
    assert only(collector.of_kind("client")).attributes["error.type"] == "StatementFailed"
    assert only(collector.of_kind("server")).attributes["error.type"] == "503"


@ON_SQLITE
async def test_lines_of_a_traced_request_have_the_id_of_its_trace(
    settings: Settings, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    caplog.handler.addFilter(RequestFields())
    async with traced(replace(settings, access_log=True), ratio=1.0) as client:
        await client.get("/items")
    [line] = [json.loads(JSONLines().format(record)) for record in caplog.records if record.name == "service"]
    assert line["trace_id"] == only(collector.of_kind("server")).trace_id
