"""Callers who write under load, and remember every word they were given."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from random import Random
from typing import Any, NamedTuple, Self

import msgspec

from tests.faults.client import Answer, Client, NotSentError, UnansweredError
from tests.faults.journal import Fields, Intent, Journal, Outcome, Reading, Told
from tests.faults.report import Record, Report
from tests.faults.threads import LIMIT_S, LoopThread
from tests.faults.workload import USUAL, Habits, Request, Workload

PAUSE_S = 0.03  # after what was not served; a refusal comes without one, and would leave the others none
CERTAIN = {503, 504}


class Heard(NamedTuple):
    """What one attempt means for its write."""

    told: Told
    status: int | None
    name: str
    body: bytes = b""


class Writers:
    """Writers of one service at one or more addresses, at work from entering the block until `stop` or leaving it."""

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
                self._work.result(self._habits.patience_s + 2 * self._habits.answer_s + LIMIT_S)
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
        workload = Workload(random, self._journal.number, str(self._seed), self._habits)
        client = Client(self._urls, first=writer, limit_s=self._habits.answer_s)
        try:
            while not self._stopping.is_set():
                request = workload.next()
                if request.intent is None:
                    served = await self._read(writer, client, request)
                else:
                    served = await self._change(writer, client, workload, request, request.intent)
                pause_s = self._habits.pause_s
                await self._pause(pause_s if served else max(pause_s, PAUSE_S))
        finally:
            client.close()

    async def _read(self, writer: int, client: Client, request: Request) -> bool:
        heard = await self._attempt(writer, client, request)
        if heard.status in {200, 404}:
            version = msgspec.json.decode(heard.body)["version"] if heard.status == 200 else None
            self._journal.append(Reading(id=int(request.path.rpartition("/")[2]), version=version))
        return heard.told == "acknowledged"

    async def _change(self, writer: int, client: Client, workload: Workload, request: Request, intent: Intent) -> bool:
        self._journal.append(intent)
        heard = await self._settled(writer, client, request, intent.key)
        items = told_items(intent, heard)
        await self._journal.settle(Outcome(number=intent.number, told=heard.told, status=heard.status, items=items))
        self._record.outcome(heard.told)
        workload.told(intent, heard.told, heard.status, items)
        return heard.told == "acknowledged"

    async def _settled(self, writer: int, client: Client, request: Request, key: str | None) -> Heard:
        """Send a write; if it has a key and its outcome is not known, until it is, or patience ends."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._habits.patience_s
        heard = await self._attempt(writer, client, request, key)
        if key is None:
            return heard
        # Once an attempt may have been served, only an answer to this very write tells: not that a repeat was refused
        # because the service is away.
        while heard.told == "unknown" and clock() < deadline:
            await asyncio.sleep(PAUSE_S)
            repeated = await self._attempt(writer, client, request, key)
            if repeated.told == "acknowledged" or (repeated.told == "refused" and (repeated.status or 500) < 500):
                return repeated
        return heard

    async def _attempt(self, writer: int, client: Client, request: Request, key: str | None = None) -> Heard:
        self._record.begin(writer)
        answered = False
        try:
            headers = self._habits.headers if key is None else {**self._habits.headers, "idempotency-key": key}
            answer = await client.ask(request.method, request.path, request.body, headers)
            heard, answered = hear(answer, keyed=key is not None), True
        except NotSentError:
            heard = Heard("refused", None, "not sent")
        except UnansweredError:
            heard = Heard("unknown", None, "unanswered")
        self._record.end(writer, heard.name, answered=answered)
        return heard

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until it is time to stop."""
        if seconds:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()


def hear(answer: Answer, *, keyed: bool) -> Heard:
    """Understand an answer: a 5xx tells that nothing happened only if it says so."""
    status = answer.status
    if status < 400:
        return Heard("acknowledged", status, str(status), answer.body)
    problem: dict[str, Any] = {}
    if answer.headers.get("content-type") == "application/problem+json":
        problem = msgspec.json.decode(answer.body)
    name = f"{status} {problem.get('code', '')}".strip()
    if keyed and status == 409:  # an attempt before this one still runs
        return Heard("unknown", status, name)
    certain = status < 500 or (status in CERTAIN and problem.get("retryable") is True)
    return Heard("refused" if certain else "unknown", status, name)


def told_items(intent: Intent, heard: Heard) -> list[Fields]:
    """Return what an acknowledgement says of the items."""
    if heard.told != "acknowledged":
        return []
    if heard.status == 204:
        return intent.items
    told = msgspec.json.decode(heard.body)
    told = told if isinstance(told, list) else [told]
    return [Fields(id=one) if isinstance(one, int) else msgspec.convert(one, Fields) for one in told]
