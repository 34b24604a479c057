"""The contest: in every round each contestant starts on a fresh database, is checked, warmed up and measured."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import psutil

from bench.answers import WrongAnswerError
from bench.checks import check_answers, check_forms
from bench.client import answers
from bench.contestants import CONTESTANTS, Contestant
from bench.database import Database
from bench.drivers.driver import Driver
from bench.drivers.pgbench import PgBench
from bench.processes import HOST, Command, cpu_seconds, free_port, running, worker_rss_bytes
from bench.record import Part, Plan, Sample, Start
from bench.workloads import WORKLOADS, Workload


@dataclass(frozen=True)
class Server:
    """A contestant that runs, in one of the rounds; a database that is asked directly has no process beside its own."""

    contestant: Contestant
    round: int
    port: int
    driver: Driver
    processes: Sequence[psutil.Process] = ()
    ready_seconds: float = 0.0

    @property
    def rss_bytes(self) -> int:
        """Resident memory of its largest worker."""
        return max(map(worker_rss_bytes, self.processes), default=0)


@dataclass(frozen=True)
class Contest:
    """One part of the plan: everything that stays the same from its first measurement to its last."""

    plan: Plan
    part: Part
    database: Database
    driver: Driver
    folder: Path

    @property
    def contestants(self) -> list[Contestant]:
        """Who takes part."""
        return [entry for entry in CONTESTANTS if entry.key in self.part.contestants]

    def cells(self, contestant: Contestant) -> list[tuple[Workload, list[int]]]:
        """List what a contestant is asked, and by how many at once."""
        asked = [entry for entry in WORKLOADS if entry.key in self.part.cells]
        return [(entry, self.part.cells[entry.key]) for entry in asked if entry.key not in contestant.leaves_out]

    def turns(self) -> Iterator[tuple[int, Contestant]]:
        """Everybody's turns; each round begins with another contestant."""
        for number in range(self.plan.rounds):
            first = number % len(self.contestants)
            for contestant in (*self.contestants[first:], *self.contestants[:first]):
                yield number + 1, contestant

    @contextmanager
    def started(self, number: int, contestant: Contestant) -> Iterator[Server]:
        """Run a contestant, alone, on a database that is as new."""
        self.database.reset(self.plan.rows)
        if not contestant.serves and self.database.binaries:
            yield Server(contestant, number, self.database.port, PgBench(self.database.binaries))
            return
        port, begin = free_port(), time.monotonic()
        line = contestant.line(HOST, port, self.part.workers)
        command = Command(line, {**contestant.settings, "DATABASE_URL": self.database.url})
        log = self.folder / f"{contestant.key}.log"
        with running(command, ready=lambda: answers(port, "/items/1"), log=log) as process:
            yield Server(contestant, number, port, self.driver, [process], time.monotonic() - begin)

    def examine(self, server: Server) -> Start:
        """Note what the contestant needs at rest, and in the first round check its answers; raises WrongAnswerError."""
        start = Start(
            database=self.part.database,
            round=server.round,
            contestant=server.contestant.key,
            ready_seconds=server.ready_seconds,
            rss_bytes=server.rss_bytes,
        )
        if server.round == 1:
            self._check(server)
        return start

    def _check(self, server: Server) -> None:
        try:
            if server.contestant.keeps_items:
                check_answers(server.port, self.plan.rows, leaves_out=server.contestant.leaves_out)
            elif server.contestant.serves:
                check_forms(server.port)
        except (WrongAnswerError, OSError, HTTPException) as error:
            raise WrongAnswerError(f"{server.contestant.title} is wrong: {error}") from None

    def warm_up(self, server: Server, workload: Workload, crowds: Sequence[int]) -> None:
        """Ask a workload once, by as many as will ever ask it."""
        seconds, rows = self.plan.warm_up_seconds, self.plan.rows
        server.driver.drive(workload, server.port, connections=max(crowds), seconds=seconds, rows=rows)

    def measure(self, server: Server, workload: Workload, connections: int) -> Sample:
        """Measure one workload."""
        verifies = workload.adds_items and server.contestant.keeps_items
        count_rows: Callable[[], int] = self.database.count if verifies else int
        trees = (*server.processes, *self.database.processes)
        seconds, rows = self.plan.duration_seconds, self.plan.rows
        rows_before, cpu_before = count_rows(), cpu_seconds(trees)
        load = server.driver.drive(workload, server.port, connections=connections, seconds=seconds, rows=rows)
        cpu_after, rows_after = cpu_seconds(trees), count_rows()
        acknowledged = (load.answers - load.failures) * workload.items if verifies else 0
        return Sample(
            database=self.part.database,
            round=server.round,
            contestant=server.contestant.key,
            workload=workload.key,
            connections=connections,
            load=load,
            lost_writes=max(0, acknowledged - (rows_after - rows_before)),
            cpu_seconds=cpu_after - cpu_before,
            rss_bytes=server.rss_bytes,
        )
