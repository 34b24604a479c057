"""What more rows cost: `python -m bench.growth` asks for one item, the first page, and a page in the middle.

One connection asks, so that no two requests can share a statement, and every one shows its own cost.
"""

import argparse
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from msgspec.structs import replace
from rich.console import Console

from bench.arguments import add_some, positive
from bench.client import Client, Target
from bench.contest import Contest, Trial
from bench.contestants import OURS
from bench.databases import DATABASES
from bench.drivers.found import find_driver
from bench.presets import narrowed, short
from bench.processes import temporary_folder
from bench.record import Growth, Part, Plan, Point, machine, versions, write
from bench.report.files import GROWTH, publish_all
from bench.report.tables import growth_table
from bench.responses import expect
from bench.terminal import progress_bar, run_command
from bench.workloads import DEEP_PAGE, GROWTH_WORKLOADS, PAGE, Workload

ROWS = {"postgres": (10**3, 10**5, 10**6, 10**7), "sqlite": (10**3, 10**4, 10**5, 10**6)}
ALONE = 1


def main() -> int:
    """Measure every size of every database."""
    return run_command(partial(work, parser().parse_args()))


def work(arguments: argparse.Namespace, console: Console) -> None:
    """Measure, print and publish."""
    growth = measured(arguments, console)
    write(arguments.output, growth)
    sys.stdout.write(f"{growth_table(growth)}\n")
    console.print("written:", *map(str, (arguments.output, *publish_all())), highlight=False, soft_wrap=True)


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
    plan = Plan(parts=[part], rounds=1, duration_seconds=growth.duration_seconds, warm_up_seconds=1, rows=rows)
    with temporary_folder() as folder, DATABASES[part.database](folder) as database:
        growth.versions.update(versions(database.version))
        contest = Contest(plan, part, database, find_driver(), folder)
        with contest.everybody() as (server,):
            contest.examine(server)
            questions = [with_path(workload, server.target, rows) for workload in GROWTH_WORKLOADS]
            for workload in questions:
                contest.warm_up(server, workload, [ALONE])
            for number in range(growth.rounds):
                for workload in questions:
                    sample = contest.measure(Trial(server, number + 1, workload, ALONE))
                    growth.points.append(Point(rows=rows, sample=sample))


def with_path(workload: Workload, target: Target, rows: int) -> Workload:
    """Find where the page in the middle begins: a filter leads there, and the cursor it gives works without it."""
    if workload.key != DEEP_PAGE.key:
        return workload
    with Client(target) as client:
        middle = client.next_page(f"{PAGE}&price_min={rows // 2 / 4}")
    expect(middle, "the page in the middle has none after it")
    (cursor,) = parse_qs(urlsplit(middle).query)["after"]
    return replace(workload, path=f"{PAGE}&after={cursor}")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description="Measure what more rows cost.")
    add = parser.add_argument
    add_some(parser, "--databases", [*DATABASES], "what stores the items", default=[*DATABASES])
    add("--rows", nargs="+", type=positive, metavar="N", help="items in the table, from a thousand to ten million")
    add("--rounds", type=positive, default=3, metavar="N", help="how often everything is asked (%(default)s)")
    add("--duration", type=positive, default=3, metavar="S", help="seconds of each measurement (%(default)s)")
    add("--output", type=Path, default=GROWTH, metavar="FILE", help="where the raw figures go (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
