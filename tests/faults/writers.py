"""Clients that write under load, and keep every response in a journal."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from random import Random
from typing import Any, NamedTuple, Self

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from tests.faults.client import Client, NotSentError, Response, UnansweredError
from tests.faults.journal import Fields, Intent, Journal, Outcome, Reading, Result
from tests.faults.report import Record, Report
from tests.faults.resources import BY_PATH, RESOURCES
from tests.faults.threads import LIMIT_S, LoopThread
from tests.faults.workload import USUAL, Habits, Request, Workload

PAUSE_S = 0.03  # after what was not served: refusals come at once, and would take all the processor
CERTAIN = {503, 504}
KEY_IN_USE = "idempotency-key-in-use"


class Attempt(NamedTuple):
    """What the response to one attempt, or its absence, means for the write."""

    result: Result
    status: int | None
    name: str
    body: bytes = b""


class Stored(Struct):
    """What every row of a response has."""

    id: int
    version: int


class Writers:
    """Writers of one service at one or more addresses, at work from entering the block until `stop` or leaving it.

    They take turns to be writers of each resource, so that all of them are written at the same time.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        journal: Journal,
        *,
        count: int = 16,
        seed: int = 0,
        habits: Habits = USUAL,
    ) -> None:
        self._urls = [urls] if isinstance(urls, str) else list(urls)
        self._journal = journal
        self._count = count
        self._seed = seed
        self._habits = habits
        self._record = Record()
        self._stopping = asyncio.Event()
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        self._thread = self._resources.enter_context(LoopThread())
        self._work = asyncio.run_coroutine_threadsafe(self._write_all(), self._thread.loop)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> Report:
        """Let every writer end what it has begun, and raise what went wrong with one of them."""
        with self._resources:
            if not self._stopping.is_set():
                self._thread.loop.call_soon_threadsafe(self._stopping.set)
                self._work.result(self._habits.patience_s + 2 * self._habits.response_s + LIMIT_S)
        return self.report()

    @property
    def acknowledged(self) -> int:
        """How many writes they were promised so far, at little cost. Raises what went wrong with one of them."""
        self._check()
        return self._record.acknowledged

    def report(self) -> Report:
        """Sum up what they have seen so far. Raises what went wrong with one of them."""
        self._check()
        return self._record.report()

    def _check(self) -> None:
        if self._work.done():
            self._work.result()

    async def _write_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for writer in range(self._count):
                group.create_task(self._write(writer))

    async def _write(self, writer: int) -> None:
        random = Random(f"{self._seed} {writer}")  # noqa: S311  # no secret: it can be repeated
        resource = RESOURCES[writer % len(RESOURCES)]
        workload = Workload(resource, random, self._journal.number, self._seed, self._habits)
        client = Client(self._urls, first=writer, limit_s=self._habits.response_s)
        try:
            while not self._stopping.is_set():
                request = workload.next()
                if request.intent is None:
                    served = await self._read(writer, client, request, resource.path)
                else:
                    served = await self._write_once(writer, client, workload, request, request.intent)
                pause_s = self._habits.pause_s
                await self._pause(pause_s if served else max(pause_s, PAUSE_S))
        finally:
            client.close()

    async def _read(self, writer: int, client: Client, request: Request, path: str) -> bool:
        attempt = await self._attempt(writer, client, request)
        if attempt.status in {200, 404}:
            version = msgspec.json.decode(attempt.body)["version"] if attempt.status == 200 else None
            self._journal.append(Reading(path=path, id=int(request.path.rpartition("/")[2]), version=version))
        return attempt.result == "acknowledged"

    async def _write_once(
        self, writer: int, client: Client, workload: Workload, request: Request, intent: Intent
    ) -> bool:
        self._journal.append(intent)
        last = await self._settled(writer, client, request, intent.key)
        rows = acknowledged_rows(intent, last)
        await self._journal.settle(Outcome(number=intent.number, result=last.result, status=last.status, rows=rows))
        self._record.outcome(last.result)
        workload.settle(intent, last.result, last.status, rows)
        return last.result == "acknowledged"

    async def _settled(self, writer: int, client: Client, request: Request, key: str | None) -> Attempt:
        """Send a write; if it has a key and its outcome is not known, until it is, or patience ends."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._habits.patience_s
        first = await self._attempt(writer, client, request, key)
        if key is None:
            return first
        # Once an attempt may have been served, only a response to this very write is certain: not that a repeat was
        # refused because the service is away.
        while first.result == "unknown" and clock() < deadline:
            await asyncio.sleep(PAUSE_S)
            repeated = await self._attempt(writer, client, request, key)
            if repeated.result == "acknowledged" or (repeated.result == "refused" and (repeated.status or 500) < 500):
                return repeated
        return first

    async def _attempt(self, writer: int, client: Client, request: Request, key: str | None = None) -> Attempt:
        self._record.begin(writer)
        answered = False
        try:
            headers = self._habits.headers if key is None else {**self._habits.headers, "idempotency-key": key}
            response = await client.ask(request.method, request.path, request.body, headers)
            attempt, answered = understand(response), True
        except NotSentError:
            attempt = Attempt("refused", None, "not sent")
        except UnansweredError:
            attempt = Attempt("unknown", None, "unanswered")
        self._record.end(writer, attempt.name, answered=answered)
        return attempt

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until it is time to stop."""
        if seconds:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()


def understand(response: Response) -> Attempt:
    """Return what a response means: after a 5xx nothing has happened only if it says so."""
    status = response.status
    if status < 400:
        return Attempt("acknowledged", status, str(status), response.body)
    problem: dict[str, Any] = {}
    if response.headers.get("content-type") == "application/problem+json":
        problem = msgspec.json.decode(response.body)
    code = problem.get("code", "")
    name = f"{status} {code}".strip()
    if code == KEY_IN_USE:  # an attempt before this one still runs
        return Attempt("unknown", status, name)
    certain = status < 500 or (status in CERTAIN and problem.get("retryable") is True)
    return Attempt("refused" if certain else "unknown", status, name)


def acknowledged_rows(intent: Intent, attempt: Attempt) -> list[Fields]:
    """Return what an acknowledgement says of the rows."""
    if attempt.result != "acknowledged":
        return []
    if attempt.status == 204:
        return intent.rows
    body = msgspec.json.decode(attempt.body)
    fields = BY_PATH[intent.path].fields
    return [
        {"id": one}
        if isinstance(one, int)
        else asdict(msgspec.convert(one, Stored)) | {name: one[name] for name in fields}
        for one in (body if isinstance(body, list) else [body])
    ]
