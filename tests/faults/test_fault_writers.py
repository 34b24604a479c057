"""What writers understand of the responses that they get."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.faults.journal import Intent, Journal, Outcome, read
from tests.faults.threads import LoopThread
from tests.faults.workload import Habits
from tests.faults.writers import Writers
from tests.support.waiting import wait_until

PROBLEM = "application/problem+json"


def problem(status: int, code: str, *, retryable: bool = False) -> bytes:
    return respond(status, {"code": code, "retryable": retryable}, PROBLEM)


def respond(status: int, body: Any, media: str = "application/json") -> bytes:
    content = msgspec.json.encode(body)
    head = f"HTTP/1.1 {status} -\r\nContent-Type: {media}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


NEVER, LOST, HALF = b"", b"lost", respond(201, {})[:-1]
AWAY = problem(503, "unavailable", retryable=True)
UNKNOWN = problem(503, "commit-outcome-unknown")
TAKEN = problem(409, "already-exists")
RUNNING = problem(409, "idempotency-key-in-use", retryable=True)
SERVED = b"served"


class PretendedService:
    """Sends these responses in turn, and then serves; what is lost is cut off, also in the middle."""

    def __init__(self, responses: list[bytes]) -> None:
        self.responses = list(responses)
        self.keys: list[str | None] = []
        self._ids = count(1)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve a connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                fields = dict(line.split(": ", 1) for line in head[:-4].split("\r\n")[1:])
                body = msgspec.json.decode(await reader.readexactly(int(fields["content-length"])))
                self.keys.append(fields.get("idempotency-key"))
                response = self.responses.pop(0) if self.responses else SERVED
                if response == SERVED:
                    response = respond(201, {**body, "id": next(self._ids), "version": 1})
                writer.write(b"" if response == LOST else response)
                if response in {LOST, HALF}:
                    return
        except (EOFError, OSError):
            return
        finally:
            writer.close()


@contextmanager
def writing(path: Path, responses: list[bytes], **habits: Any) -> Iterator[tuple[PretendedService, Writers]]:
    """Let one writer create items at a pretended service."""
    with ExitStack() as opened:
        thread = opened.enter_context(LoopThread())
        service = PretendedService(responses)
        server = thread.run(asyncio.start_server(service.serve, "127.0.0.1", 0))
        opened.callback(lambda: thread.loop.call_soon_threadsafe(server.close))
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        journal = opened.enter_context(Journal(path / "journal"))
        chosen = Habits(mix={"create": 1}, response_s=0.3, patience_s=0.5, pause_s=0.01)._replace(**habits)
        yield service, opened.enter_context(Writers(url, journal, count=1, habits=chosen))


def first(path: Path) -> tuple[Intent, Outcome]:
    """Return the first write, once it has an outcome."""
    wait_until(lambda: any(isinstance(event, Outcome) for event in read(path / "journal")))
    intent, outcome = read(path / "journal")[:2]
    assert isinstance(intent, Intent)
    assert isinstance(outcome, Outcome)
    return intent, outcome


@pytest.mark.parametrize(
    ("sent", "outcome"),
    [
        (SERVED, "acknowledged"),
        (AWAY, "refused"),
        (problem(504, "statement-timeout", retryable=True), "refused"),
        (problem(422, "invalid-body"), "refused"),
        (TAKEN, "refused"),
        (UNKNOWN, "unknown"),
        (problem(504, "gateway"), "unknown"),
        (problem(500, "internal-error", retryable=True), "unknown"),
        (respond(503, {"retryable": True}), "unknown"),
        (respond(502, "down", "text/plain"), "unknown"),
        (LOST, "unknown"),
        (HALF, "unknown"),
        (NEVER, "unknown"),
        (b"nonsense\r\n\r\n", "unknown"),
    ],
)
def test_a_response_is_taken_for_what_it_says(tmp_path: Path, sent: bytes, outcome: str) -> None:
    with writing(tmp_path, [sent], keyed_share=0.0) as (service, writers):
        assert first(tmp_path)[1].result == outcome
        wait_until(lambda: writers.report().acknowledged)  # and goes on
    assert set(service.keys) == {None}
    assert writers.report().unanswered_max_s < 2


@pytest.mark.parametrize(
    ("sent", "outcome"),
    [
        ([AWAY], "refused"),
        ([LOST, AWAY, RUNNING, UNKNOWN, HALF, SERVED], "acknowledged"),
        ([RUNNING, SERVED], "acknowledged"),
        ([LOST, TAKEN], "refused"),
        ([UNKNOWN, AWAY, problem(422, "invalid-body")], "refused"),
        ([LOST, *[AWAY] * 1000], "unknown"),
    ],
)
def test_a_write_with_a_key_is_repeated_until_it_is_certain(tmp_path: Path, sent: list[bytes], outcome: str) -> None:
    with writing(tmp_path, sent, keyed_share=1.0) as (service, _):
        intent, last = first(tmp_path)
        assert last.result == outcome
        attempts = len(sent) if len(sent) < 1000 else 3
        assert intent.key is not None
        assert service.keys[:attempts] == [intent.key] * attempts


def test_a_writer_that_fails_is_heard_of(tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup), writing(tmp_path, [respond(201, {"id": "one"})]) as (_, writers):
        wait_until(lambda: writers.report().acknowledged > 1)
