"""The contest: everybody runs, and one after the other is asked; whoever waits costs nothing.

A trial lasts a few seconds, so that what is compared was measured side by side: a machine that slows down for a minute
slows everybody down.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import psutil
from msgspec.structs import replace

from bench.checks import check_forms, check_responses
from bench.client import Target, serves
from bench.contestants import CONTESTANTS, Contestant
from bench.database import Database, issue_token
from bench.drivers.driver import Crowd, Driver
from bench.drivers.pgbench import PgBench
from bench.pages import Paths, check_pages, choose, spacing
from bench.processes import HOST, Command, cpu_seconds, free_port, pss_bytes, running
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
    def pss_bytes(self) -> int:
        """Memory of all its processes."""
        return pss_bytes(self.processes)


class Question(NamedTuple):
    """Who is asked, and what; its paths are those that this contestant knows."""

    server: Server
    workload: Workload


class Trial(NamedTuple):
    """A question in one of the rounds, by so many at once."""

    question: Question
    round: int
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
        """Run all contestants on the table, which has at least one row."""
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
        settings = contestant.environment(self.part.workers)
        command = Command(line, {**settings, "DATABASE_URL": self.database.url})
        log = self.folder / f"{contestant.key}.log"
        with running(command, ready=lambda: serves(target, "/items/1"), log=log) as process:
            yield Server(contestant, target, self.driver, [process], time.monotonic() - begin)

    def fill(self, workload: Workload | None = None) -> None:
        """Make the table as a workload wants it."""
        self.database.fill(self.rows(workload))

    def rows(self, workload: Workload | None) -> int:
        """Return how many rows the table has for a workload."""
        return (workload and workload.rows) or self.plan.rows

    def examine(self, server: Server) -> Start:
        """Note what a contestant needs at rest, and check its responses; raises WrongResponseError."""
        start = Start(
            database=self.part.database,
            contestant=server.contestant.key,
            ready_seconds=server.ready_seconds,
            pss_bytes=server.pss_bytes,
        )
        with _accusing(server):
            if server.contestant.stores_items:
                check_responses(server.target, self.plan.rows, leaves_out=server.contestant.leaves_out)
            elif server.contestant.serves:
                check_forms(server.target)
        return start

    def workloads(self) -> list[Workload]:
        """List what is asked; what needs another table comes last, so that it is filled once."""
        asked = [workload for workload in WORKLOADS if workload.key in self.part.cells]
        return sorted(asked, key=self.rows)

    def asked(self, workload: Workload, servers: Sequence[Server]) -> list[Server]:
        """List who serves a workload."""
        return [server for server in servers if workload.key not in server.contestant.leaves_out]

    def count(self, workload: Workload, asked: Sequence[Server]) -> int:
        """Count the trials of a workload."""
        return len(self.part.cells[workload.key]) * self.plan.rounds * len(asked)

    def prepare(self, workload: Workload, asked: Sequence[Server]) -> list[Question]:
        """Fill the table, and find the paths of a workload's pages; raises WrongResponseError.

        Those who are asked in one way, as the forms of this service are, are asked for the same paths.
        """
        self.fill(workload)
        if not workload.pages:
            return [Question(server, workload) for server in asked]
        rows = self.rows(workload)
        starts, step = choose(self.database, rows, workload.pages), spacing(rows, workload.pages)
        known: dict[object, Paths] = {}
        questions = []
        for server in asked:
            find = server.contestant.paths
            with _accusing(server):
                paths = known[find] = known.get(find) or find(server.target, starts, step)
                if server.contestant.stores_items:
                    check_pages(self.database, server.target, starts, paths)
            file = self.folder / f"{server.contestant.key}-{workload.key}.txt"
            file.write_text("\n".join(chain.from_iterable(paths.values())), encoding="utf-8")
            questions.append(Question(server, replace(workload, path=str(file))))
        return questions

    def trials(self, questions: Sequence[Question]) -> Iterator[Trial]:
        """List the trials of a workload; each round begins with another contestant."""
        for connections in self.part.cells[questions[0].workload.key]:
            for number in range(self.plan.rounds):
                first = number % len(questions)
                for question in (*questions[first:], *questions[:first]):
                    yield Trial(question, number + 1, connections)

    def warm_up(self, question: Question) -> None:
        """Ask a workload once, by as many as will ever ask it, what no round will draw."""
        server, workload = question
        crowd = self._crowd(workload, max(self.part.cells[workload.key]), seed=self.plan.rounds + 1)
        server.driver.drive(workload, server.target, replace(crowd, seconds=self.plan.warm_up_seconds))

    def _crowd(self, workload: Workload, connections: int, *, seed: int) -> Crowd:
        seconds, rows = self.plan.duration_seconds, self.rows(workload)
        return Crowd(connections=connections, seconds=seconds, rows=rows, seed=seed)

    def measure(self, trial: Trial) -> Sample:
        """Run one trial, on a table that is new if it will be changed."""
        (server, workload), number, connections = trial
        if workload.changes_items:
            self.fill(workload)
        verifies = workload.creates_items and server.contestant.stores_items
        count_rows: Callable[[], int] = self.database.count if verifies else int
        trees = (*server.processes, *self.database.processes)
        crowd = self._crowd(workload, connections, seed=number)
        rows_before, cpu_before = count_rows(), cpu_seconds(trees)
        load = server.driver.drive(workload, server.target, crowd)
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
            pss_bytes=server.pss_bytes,
        )


@contextmanager
def _accusing(server: Server) -> Iterator[None]:
    try:
        yield
    except (WrongResponseError, OSError, HTTPException) as error:
        raise WrongResponseError(f"{server.contestant.title} is wrong: {error}") from None
