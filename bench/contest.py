"""The contest: in every round each contestant starts on a fresh database, is checked, warmed up and measured."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import psutil

from bench.answers import WrongAnswerError
from bench.checks import check_answers
from bench.client import answers
from bench.contestants import Contestant
from bench.database import Database
from bench.driver import Driver, Load
from bench.processes import HOST, Command, cpu_seconds, free_port, running, worker_rss_bytes
from bench.record import Plan, Sample, Start
from bench.workloads import Workload


@dataclass(frozen=True)
class Server:
    """A contestant that runs, in one of the rounds."""

    contestant: Contestant
    round: int
    port: int
    process: psutil.Process
    ready_seconds: float


@dataclass(frozen=True)
class Contest:
    """Everything that stays the same from the first measurement to the last."""

    plan: Plan
    contestants: Sequence[Contestant]
    workloads: Sequence[Workload]
    database: Database
    driver: Driver
    folder: Path

    def turns(self) -> Iterator[tuple[int, Contestant]]:
        """Everybody's turns; each round begins with another contestant."""
        for number in range(self.plan.rounds):
            first = number % len(self.contestants)
            for contestant in (*self.contestants[first:], *self.contestants[:first]):
                yield number + 1, contestant

    @contextmanager
    def started(self, number: int, contestant: Contestant) -> Iterator[Server]:
        """Run a contestant, alone, on a database that is as new."""
        self.database.reset()
        port, begin = free_port(), time.monotonic()
        line = contestant.line(HOST, port, self.plan.workers)
        command = Command(line, {**contestant.settings, "DATABASE_URL": self.database.url})
        log = self.folder / f"{contestant.key}.log"
        with running(command, ready=lambda: answers(port, "/items/1"), log=log) as process:
            yield Server(contestant, number, port, process, time.monotonic() - begin)

    def examine(self, server: Server) -> Start:
        """Note what the contestant needs at rest, and check that it answers rightly; raises WrongAnswerError."""
        rss_bytes = worker_rss_bytes(server.process)
        try:
            check_answers(server.port, self.plan.rows)
        except (WrongAnswerError, OSError, HTTPException) as error:
            raise WrongAnswerError(f"{server.contestant.title} is wrong: {error}") from None
        return Start(
            round=server.round,
            contestant=server.contestant.key,
            ready_seconds=server.ready_seconds,
            rss_bytes=rss_bytes,
        )

    def measure(self, server: Server, workload: Workload, connections: int) -> Sample:
        """Warm one workload up, then measure it."""

        def drive(seconds: int) -> Load:
            rows = self.plan.rows
            return self.driver.drive(workload, server.port, connections=connections, seconds=seconds, rows=rows)

        drive(self.plan.warm_up_seconds)
        count_rows: Callable[[], int] = self.database.count if workload.adds_rows else int
        trees = (server.process, *self.database.processes)
        rows_before, cpu_before = count_rows(), cpu_seconds(trees)
        load = drive(self.plan.duration_seconds)
        cpu_after, rows_after = cpu_seconds(trees), count_rows()
        acknowledged = load.answers - load.failures if workload.adds_rows else 0
        return Sample(
            round=server.round,
            contestant=server.contestant.key,
            workload=workload.key,
            connections=connections,
            load=load,
            lost_writes=max(0, acknowledged - (rows_after - rows_before)),
            cpu_seconds=cpu_after - cpu_before,
            rss_bytes=worker_rss_bytes(server.process),
        )
