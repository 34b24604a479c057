"""The contest: everybody runs, and one after the other is asked; whoever waits costs nothing.

A trial lasts a few seconds, so that what is compared was measured side by side: a machine that slows down for a minute
slows everybody down.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.checks import check_forms, check_responses
from bench.client import Target, serves
from bench.contestants import CONTESTANTS, Contestant
from bench.database import Database, issue_token
from bench.drivers.driver import Driver
from bench.drivers.pgbench import PgBench
from bench.processes import HOST, Command, cpu_seconds, free_port, running, worker_rss_bytes
from bench.record import Part, Plan, Sample, Start
from bench.responses import WrongResponseError
from bench.workloads import WORKLOADS, Workload


@dataclass(frozen=True)
class Server:
    """A contestant that runs; a database that is asked directly has no process beside its own."""

    contestant: Contestant
    target: Target
    driver: Driver
    processes: Sequence[psutil.Process] = ()
    ready_seconds: float = 0.0

    @property
    def rss_bytes(self) -> int:
        """Resident memory of its largest worker."""
        return max(map(worker_rss_bytes, self.processes), default=0)


class Trial(NamedTuple):
    """Who is measured, in which round, and what is asked by how many at once."""

    server: Server
    round: int
    workload: Workload
    connections: int


@dataclass(frozen=True)
class Contest:
    """One part of the plan: everything that stays the same from its first measurement to its last."""

    plan: Plan
    part: Part
    database: Database
    driver: Driver
    folder: Path

    @contextmanager
    def everybody(self) -> Iterator[list[Server]]:
        """Fill the table, and run all contestants on it."""
        self.fill()
        with ExitStack() as stack:
            yield [
                stack.enter_context(self._running(entry)) for entry in CONTESTANTS if entry.key in self.part.contestants
            ]

    @contextmanager
    def _running(self, contestant: Contestant) -> Iterator[Server]:
        if not contestant.serves and self.database.binaries:
            yield Server(contestant, Target(self.database.port), PgBench(self.database.binaries))
            return
        headers = {"Authorization": f"Bearer {issue_token(self.database.url)}"} if contestant.wants_token else {}
        target, begin = Target(free_port(), headers), time.monotonic()
        line = contestant.line(HOST, target.port, self.part.workers)
        command = Command(line, {**contestant.settings, "DATABASE_URL": self.database.url})
        log = self.folder / f"{contestant.key}.log"
        with running(command, ready=lambda: serves(target, "/items/1"), log=log) as process:
            yield Server(contestant, target, self.driver, [process], time.monotonic() - begin)

    def fill(self) -> None:
        """Make the table new."""
        self.database.reset(self.plan.rows)

    def examine(self, server: Server) -> Start:
        """Note what a contestant needs at rest, and check its responses; raises WrongResponseError."""
        start = Start(
            database=self.part.database,
            contestant=server.contestant.key,
            ready_seconds=server.ready_seconds,
            rss_bytes=server.rss_bytes,
        )
        try:
            if server.contestant.stores_items:
                check_responses(server.target, self.plan.rows, leaves_out=server.contestant.leaves_out)
            elif server.contestant.serves:
                check_forms(server.target)
        except (WrongResponseError, OSError, HTTPException) as error:
            raise WrongResponseError(f"{server.contestant.title} is wrong: {error}") from None
        return start

    def workloads(self, servers: Sequence[Server]) -> Iterator[tuple[Workload, list[Server]]]:
        """List what is asked, and of whom."""
        for workload in WORKLOADS:
            if workload.key in self.part.cells:
                yield workload, [server for server in servers if workload.key not in server.contestant.leaves_out]

    def trials(self, workload: Workload, asked: Sequence[Server]) -> Iterator[Trial]:
        """List the trials of a workload; each round begins with another contestant."""
        for connections in self.part.cells[workload.key]:
            for number in range(self.plan.rounds):
                first = number % len(asked)
                for server in (*asked[first:], *asked[:first]):
                    yield Trial(server, number + 1, workload, connections)

    def warm_up(self, server: Server, workload: Workload, crowds: Sequence[int]) -> None:
        """Ask a workload once, by as many as will ever ask it."""
        seconds, rows = self.plan.warm_up_seconds, self.plan.rows
        server.driver.drive(workload, server.target, connections=max(crowds), seconds=seconds, rows=rows)

    def measure(self, trial: Trial) -> Sample:
        """Run one trial, on a table that is new if it will be changed."""
        server, number, workload, connections = trial
        if workload.changes_items:
            self.fill()
        verifies = workload.creates_items and server.contestant.stores_items
        count_rows: Callable[[], int] = self.database.count if verifies else int
        trees = (*server.processes, *self.database.processes)
        seconds, rows = self.plan.duration_seconds, self.plan.rows
        rows_before, cpu_before = count_rows(), cpu_seconds(trees)
        load = server.driver.drive(workload, server.target, connections=connections, seconds=seconds, rows=rows)
        cpu_after, rows_after = cpu_seconds(trees), count_rows()
        acknowledged = (load.responses - load.failures) * workload.items if verifies else 0
        return Sample(
            database=self.part.database,
            round=number,
            contestant=server.contestant.key,
            workload=workload.key,
            connections=connections,
            load=load,
            lost_writes=max(0, acknowledged - (rows_after - rows_before)),
            cpu_seconds=cpu_after - cpu_before,
            rss_bytes=server.rss_bytes,
        )
