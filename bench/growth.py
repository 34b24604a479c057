"""What more rows cost: `python -m bench.growth` asks for one item, and for pages all over the table.

One connection asks, so that no two requests can share a statement, and every one shows its own cost. Cold is the first
time after service and database have started anew, and what the system had kept of their files was dropped.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from bench.arguments import add_output, add_some, is_narrowed, positive
from bench.contest import Contest, Question, Server, Trial
from bench.contestants import OURS
from bench.databases import DATABASES
from bench.drivers.found import find_driver
from bench.presets import narrowed, short
from bench.processes import temporary_folder
from bench.record import Growth, Part, Plan, Point, machine, versions, write
from bench.report.files import GROWTH, NARROWED, publish_all
from bench.report.tables import growth_table
from bench.terminal import progress_bar, run_command
from bench.workloads import GROWTH_WORKLOADS

ROWS = {"postgres": (10**3, 10**4, 10**5, 10**6, 10**7), "sqlite": (10**3, 10**4, 10**5, 10**6)}
ALONE = 1


def main() -> int:
    """Measure every size of every database."""
    arguments = parser().parse_args()
    if arguments.output is None:
        arguments.output = NARROWED / GROWTH.name if is_narrowed(arguments, parser()) else GROWTH
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
    return run_command(partial(work, arguments))


def work(arguments: argparse.Namespace, console: Console) -> None:
    """Measure, print and publish."""
    growth = measured(arguments, console)
    write(arguments.output, growth)
    sys.stdout.write(f"{growth_table(growth)}\n")
    published = publish_all() if arguments.output == GROWTH else []
    console.print("written:", *map(str, (arguments.output, *published)), highlight=False, soft_wrap=True)


def measured(arguments: argparse.Namespace, console: Console) -> Growth:
    """Fill each database with more and more rows, and ask each time."""
    growth = Growth(
        started=datetime.now(UTC),
        rounds=arguments.rounds,
        duration_seconds=arguments.duration,
        machine=machine(),
        versions=versions(find_driver().version),
    )
    sizes = [(key, rows) for key in arguments.databases for rows in arguments.rows or ROWS[key]]
    with progress_bar(console) as progress:
        task = progress.add_task("", total=len(sizes))
        for key, rows in sizes:
            progress.update(task, description=f"{key} · {rows:,} rows")
            measure(growth, part_for(key), rows)
            progress.advance(task)
    return growth


def part_for(database: str) -> Part:
    """Describe a contest of this service alone, with as many processes as in the others."""
    part = next(part for part in short().parts if part.database == database)
    return narrowed(part, contestants=[OURS])


def measure(growth: Growth, part: Part, rows: int) -> None:
    """Note what every question costs on a table of this size."""
    seconds = growth.duration_seconds
    plan = Plan(parts=[part], rounds=growth.rounds, duration_seconds=seconds, warm_up_seconds=1, rows=rows)
    with temporary_folder() as folder:
        with contest(growth, plan, folder, is_new=True) as (everything, server):
            everything.examine(server)
            everything.fill()
            questions = [everything.prepare(workload, [server])[0].workload for workload in GROWTH_WORKLOADS]
            for workload in questions:
                everything.warm_up(Question(server, workload))
            for number in range(growth.rounds):
                for workload in questions:
                    sample = everything.measure(Trial(Question(server, workload), number + 1, ALONE))
                    growth.points.append(Point(rows=rows, sample=sample))
        for number in range(growth.rounds):
            for workload in questions:
                drop_from_page_cache(folder)
                with contest(growth, plan, folder) as (everything, server):
                    sample = everything.measure(Trial(Question(server, workload), number + 1, ALONE))
                    growth.points.append(Point(rows=rows, sample=sample, cold=True))


@contextmanager
def contest(growth: Growth, plan: Plan, folder: Path, *, is_new: bool = False) -> Iterator[tuple[Contest, Server]]:
    """Run database and service on what lies in a folder; a new table is filled, another one is not even looked at."""
    (part,) = plan.parts
    with DATABASES[part.database](folder) as database:
        growth.versions.update(versions(database.version))
        everything = Contest(plan, part, database, find_driver(), folder)
        if is_new:
            everything.fill()
        with everything.everybody() as (server,):
            yield everything, server


def drop_from_page_cache(folder: Path) -> None:
    """Ask the system to forget what it keeps of the files in a folder, which it does once they are on the disk."""
    for file in folder.rglob("*"):
        if file.is_file() and hasattr(os, "posix_fadvise"):
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.growth", description="Measure what more rows cost.", allow_abbrev=False
    )
    add = parser.add_argument
    add_some(parser, "--databases", [*DATABASES], "what stores the items", default=[*DATABASES])
    add("--rows", nargs="+", type=positive, metavar="N", help="items in the table, from a thousand to ten million")
    add("--rounds", type=positive, default=3, metavar="N", help="how often everything is asked (%(default)s)")
    add("--duration", type=positive, default=3, metavar="S", help="seconds of each measurement (%(default)s)")
    add_output(parser, f"{GROWTH}, or {NARROWED} for a part of it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
