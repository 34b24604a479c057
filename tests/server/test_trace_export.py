"""Traces of a service as its users have it: what its workers export, and what they lose without a collector."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from opentelemetry.sdk.resources import Resource

from service.observability import span_export
from service.observability.request_batches import BatchRun
from service.observability.spans import EndedBatch
from service.observability.trace_context import SAMPLED, TraceContext
from tests.server.test_spans import request
from tests.server.test_traces import PARENT, part_of
from tests.support.collector import Collector, collecting
from tests.support.serving import ROOT, ServiceProcess
from tests.support.waiting import LIMIT_S, wait_until

ON_SQLITE = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)

ALL = {"ITEMSVC_TRACES": "on", "ITEMSVC_TRACE_RATIO": "1", "OTEL_BSP_SCHEDULE_DELAY": "100"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Return a collector."""
    with collecting() as collector:
        yield collector


def ask(url: str, traces: range) -> None:
    """Read items at the same time, each in a trace: the requests are all there before a response is awaited."""
    address = urlsplit(url)
    with ExitStack() as opened:
        calls = []
        for number in traces:
            call = opened.enter_context(socket.create_connection((str(address.hostname), address.port or 80), LIMIT_S))
            headers = {"host": address.netloc, "connection": "close", **part_of(number)}
            calls.append((call, "".join(f"{name}: {value}\r\n" for name, value in headers.items())))
        for number, (call, head) in zip(traces, calls, strict=True):
            call.sendall(f"GET /items/{number} HTTP/1.1\r\n{head}\r\n".encode())
        for call, _ in calls:
            assert call.makefile("rb").readline().startswith(b"HTTP/1.1 404")


@ON_SQLITE
def test_workers_export_requests_with_their_parents_and_statements_with_their_links(
    database_url: str, collector: Collector
) -> None:
    variables = {**collector.environ, "OTEL_EXPORTER_OTLP_HEADERS": "x-key=s3cret", "OTEL_RESOURCE_ATTRIBUTES": "a=b"}
    with ServiceProcess(database_url, workers=2, ITEMSVC_TRACES="on", **variables) as service:
        ask(service.url, range(1, 65))
        service.send(signal.SIGTERM)
        assert service.wait() == 0
    requests = collector.of_kind("server")
    assert {(span.trace_id, span.parent_id) for span in requests} >= {(f"{n:032x}", PARENT) for n in range(1, 65)}
    sent = {(span.trace_id, span.span_id) for span in requests if span.parent_id == PARENT}
    statements = [span for span in collector.of_kind("client") if span.name == "get items"]
    assert sorted(link for span in statements for link in span.links) == sorted(sent)
    assert any(len(span.links) > 1 for span in statements)
    resources = {(span.resource["service.name"], span.resource["a"]) for span in collector.spans}
    assert resources == {("items-service", "b")}
    assert len({span.resource["service.instance.id"] for span in collector.spans}) == 2
    assert {headers["x-key"] for headers in collector.headers} == {"s3cret"}


@ON_SQLITE
def test_a_collector_that_does_not_respond_delays_no_request_and_no_drain(
    database_url: str, collector: Collector
) -> None:
    collector.gate.clear()
    settings = {**ALL, **collector.environ, "ITEMSVC_SHUTDOWN_TIMEOUT_S": "2", "OTEL_SERVICE_NAME": "shop"}
    with ServiceProcess(database_url, workers=1, **settings) as service:
        for _ in range(4):
            ask(service.url, range(1, 65))
        assert collector.asked.wait(LIMIT_S)
        service.send(signal.SIGTERM)
        assert service.wait() == 0
        assert "Killing" not in service.log


@ON_SQLITE
def test_spans_for_a_collector_that_is_not_there_are_lost_and_counted(database_url: str) -> None:
    nowhere = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    with ServiceProcess(database_url, workers=1, **ALL, **nowhere, ITEMSVC_SHUTDOWN_TIMEOUT_S="2") as service:
        with service.client() as client:
            assert client.get("/items").status_code == 200
        wait_until(lambda: '"spans lost"' in service.log)
        service.send(signal.SIGTERM)
        assert service.wait() == 0
        [line, *_] = [line for line in service.log.splitlines() if '"spans lost"' in line]
        assert '"level":"warning","logger":"service.observability.span_export"' in line
        assert '"lost":' in line
        assert "refused" in line
        assert '"opentelemetry' not in service.log
        assert "Killing" not in service.log


def test_spans_beyond_the_queue_are_lost_and_counted(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    collector.gate.clear()
    monkeypatch.setattr(span_export, "QUEUED_SPANS_MAX", 8)
    monkeypatch.setattr(span_export, "EXPORTED_SPANS_MAX", 4)
    for name, value in collector.environ.items():
        monkeypatch.setenv(name, value)
    export = span_export.span_export(Resource.create())
    for _ in range(4):
        export.add(request(route="first"))
    assert collector.asked.wait(LIMIT_S)
    for _ in range(20):
        export.add(request(route="next"))
    [record] = [record for record in caplog.records if record.getMessage() == "spans lost"]
    assert (vars(record)["lost"], vars(record)["error"]) == (1, "4096 spans wait for the collector")
    collector.gate.set()
    export.shutdown()
    assert [span.name for span in collector.spans] == ["GET first"] * 4 + ["GET next"] * 8


def test_the_spans_of_a_batch_are_lost_together_or_sent_in_as_many_requests_as_they_take(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(span_export, "QUEUED_SPANS_MAX", 16)
    monkeypatch.setattr(span_export, "EXPORTED_SPANS_MAX", 4)
    for name, value in collector.environ.items():
        monkeypatch.setenv(name, value)
    export = span_export.span_export(Resource.create())
    waits = [(0.5, TraceContext(f"{number:032x}", f"{number:016x}", SAMPLED)) for number in range(1, 10)]
    for _ in range(2):
        export.add(EndedBatch(BatchRun("items get", 9, 1.0, 2.0, ""), waits, 0, "sqlite"))
    export.shutdown()
    [record] = [record for record in caplog.records if record.getMessage() == "spans lost"]
    assert vars(record)["lost"] == 10
    [statement] = collector.of_kind("client")
    assert statement.links == [(context.trace_id, context.span_id) for _, context in waits]
    assert [span.parent_id for span in collector.of_kind("internal")] == [context.span_id for _, context in waits]
    assert len(collector.headers) == 3


def run(*arguments: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=LIMIT_S,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
    )


@ON_SQLITE
def test_traces_without_their_extra_end_the_start_with_its_name(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("")  # hides the one that is installed
    environ = {"DATABASE_URL": database_url, "PORT": "0", "ITEMSVC_TRACES": "on"}
    for command in ("serve", "check"):
        path = f"{tmp_path}:{ROOT}"
        ended = run("-m", "service", command, folder=tmp_path, **environ, PYTHONPATH=path)
        assert ended.returncode == 1
        assert (
            "ITEMSVC_TRACES is on, which needs the extra otel, as of pip install 'items-service[otel]'" in ended.stderr
        )
        assert "Traceback" not in ended.stderr


@ON_SQLITE
def test_without_traces_opentelemetry_is_not_imported(database_url: str, tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from service.app import create_app; from service.settings import Settings\n"
        "async def main():\n"
        f"    app = create_app(Settings(database_url={database_url!r}))\n"
        "    async with app.lifespan_context(app): pass\n"
        "asyncio.run(main())\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    assert run("-c", code, folder=tmp_path).stdout == "[]\n"
