"""A service under load while something happens to it, held in the end to every response it gave."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from sqlalchemy import make_url, text

from db.engines.engine import open_database
from db.engines.postgresql import APPLICATION_NAME
from tests.faults.checker import check, integrity_faults, read_rows
from tests.faults.client import Client
from tests.faults.durable import durable_server
from tests.faults.journal import Journal
from tests.faults.report import Figures, Report
from tests.faults.workload import USUAL, Habits
from tests.faults.writers import Writers
from tests.support.ports import free_port
from tests.support.serving import ServiceProcess, has_ended
from tests.support.waiting import LIMIT_S, wait_until

WRITERS = 16
CLIENTS = 64
RECOVERY_S_MAX = 2.0
ALLOWANCE_S = 0.25  # beyond a deadline: the clients, the proxy and PostgreSQL run on the same machine
# Whatever happens to the database: a 404 is of a row that may have been deleted, and some code must say what it is. No
# two writes have a unique value in common, so that 409 already-exists would be of a write that was made twice.
RESPONSES = ("200", "201", "204", "404 ", "409 idempotency-key-in-use", "503 ", "504 ")
NO_RESPONSES = ("unanswered", "not sent")  # of a service that was killed


class Load:
    """Groups of writers at work from entering the block until `end` or leaving it, each with a journal of its own."""

    def __init__(self, url: str, *groups: Habits, writers: int = WRITERS, seed: int = 0) -> None:
        self._url = url
        self._groups = groups or (USUAL,)
        self._writers = writers // len(self._groups)
        self._seed = seed
        self._at_work: list[Writers] = []
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._folder = Path(opened.enter_context(TemporaryDirectory()))
            for seed, habits in enumerate(self._groups, self._seed):
                journal = opened.enter_context(Journal(self._folder / str(seed)))
                writers = Writers(self._url, journal, count=self._writers, seed=seed, habits=habits)
                self._at_work.append(opened.enter_context(writers))
            self._resources = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    @property
    def acknowledged(self) -> int:
        """How many writes were acknowledged so far."""
        return sum(writers.acknowledged for writers in self._at_work)

    def wait_for(self, more: int, limit_s: float = LIMIT_S) -> None:
        """Wait until so many more writes are acknowledged."""
        target = self.acknowledged + more
        wait_until(lambda: self.acknowledged >= target, limit_s)

    def recovery_s(self) -> float:
        """Wait until another write is acknowledged, and return the seconds. Raises AssertionError if too many."""
        since = time.monotonic()
        self.wait_for(1)
        took_s = time.monotonic() - since
        assert took_s <= RECOVERY_S_MAX, took_s
        return took_s

    def end(self, database_url: str, *, responses: Sequence[str] = RESPONSES) -> tuple[Figures, list[Report]]:
        """Let all writers finish, and return their reports, summed up and by group.

        Raises AssertionError with every broken promise, by the responses, the journals, the database and its file.
        """
        reports = [writers.stop() for writers in self._at_work]
        found = sum((Counter(report.responses) for report in reports), Counter[str]())
        wait_until(lambda: not sessions(database_url, busy=True))  # of those that were killed
        wrong = [
            f"{count} were answered {name}" for name, count in found.items() if not name.startswith(tuple(responses))
        ]
        faults = [*wrong, *integrity_faults(database_url), *self._broken(database_url)]
        assert not faults, f"{len(faults)} faults: {faults[:50]}"
        return {**summed(reports), "responses": dict(sorted(found.items())), "lost": 0, "duplicates": 0}, reports

    def _broken(self, database_url: str) -> Iterator[str]:
        """Return broken promises: each row belongs to a group by the first part of its name, or to none."""
        rows = read_rows(database_url)
        last = self._seed + len(self._groups) - 1
        for seed in range(self._seed, last):
            yield from check(self._folder / str(seed), [row for row in rows if row.name.startswith(f"{seed}-")])
            rows = [row for row in rows if not row.name.startswith(f"{seed}-")]
        yield from check(self._folder / str(last), rows)


def check_answered(report: Report, deadline_s: float) -> None:
    """Raise AssertionError if a request had no response in time."""
    assert report.unanswered_max_s <= deadline_s + ALLOWANCE_S, (report.unanswered_max_s, deadline_s, report)


class Survivor:
    """A service that is started again on the port it had, as an orchestrator does."""

    def __init__(self, database_url: str, *, workers: int = 1, **settings: str) -> None:
        self._database_url = database_url
        self._settings = {"PORT": str(free_port()), **settings}
        self._workers = workers
        self._resources = ExitStack()
        self.starts = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def start(self) -> None:
        """Start it, after a kill -9 of all its processes if it runs, and return once it serves."""
        self._resources.close()
        service = ServiceProcess(self._database_url, workers=self._workers, **self._settings)
        self.service = self._resources.enter_context(service)
        self._lives = self._workers
        self.starts += 1

    def kill_worker(self, number: int) -> None:
        """Kill -9 one of its workers, and return once there is another, or another service if it ended of it."""
        workers = [worker for worker in self.service.workers if not has_ended(worker)]
        workers[number % len(workers)].kill()
        self._lives += 1
        wait_until(lambda: self._has_ended() or self._started() >= self._lives, 2 * LIMIT_S)
        if self._has_ended():
            self.start()

    def _has_ended(self) -> bool:
        return self.service.process.poll() is not None

    def _started(self) -> int:
        return self.service.log.count("Started worker-")


@contextmanager
def durable_database(url: str | None) -> Iterator[str]:
    """Return a database that is there and empty, or a server's own where there is none."""
    with ExitStack() as opened:
        yield url or opened.enter_context(durable_server()).url()


def fill_pools(url: str) -> None:
    """Let a service open every connection that it may have: its pools grow with what is done at the same time."""

    async def ask() -> None:
        clients = [Client([url]) for _ in range(CLIENTS)]
        try:
            await asyncio.gather(
                *(client.ask("PATCH", "/items", b'[{"id":1000000000,"price":1}]') for client in clients)
            )
        finally:
            for client in clients:
                client.close()

    asyncio.run(ask())


def sessions(database_url: str, *, busy: bool = False) -> int:
    """Count the service's connections, as PostgreSQL knows them: all, or those within a transaction."""
    if make_url(database_url).get_backend_name() == "sqlite":
        return 0
    here = "datname = current_database() AND pid <> pg_backend_pid()"  # the connection that asks has the same name
    ours = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = :name AND {here}"  # noqa: S608 - from above
    counted = text(f"{ours} AND state <> 'idle'" if busy else ours).bindparams(name=APPLICATION_NAME)

    async def count() -> int:
        database = open_database(database_url)
        try:
            async with database.engine.begin() as connection:
                return int(await connection.scalar(counted) or 0)
        finally:
            await database.close()

    return asyncio.run(count())


def summed(reports: Sequence[Report]) -> Figures:
    """Put the counts and times of several together."""
    outcomes = sum((Counter(report.outcomes) for report in reports), Counter[str]())
    counts: dict[str, Any] = {result: outcomes[result] for result in ("acknowledged", "refused", "unknown")}
    times = {
        "latency_p50_ms": max(report.latency_p50_s for report in reports),
        "latency_p99_ms": max(report.latency_p99_s for report in reports),
        "unanswered_max_ms": max(report.unanswered_max_s for report in reports),
        "gap_max_ms": max(report.gap_max_s for report in reports),
    }
    return {**counts, **{name: round(seconds * 1000) for name, seconds in times.items()}}
