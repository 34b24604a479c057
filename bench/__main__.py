"""The command line: `python -m bench` runs a contest and writes its raw figures, a table and a report."""

import argparse
import sys
from datetime import UTC, datetime
from functools import partial

from rich.console import Console
from rich.progress import Progress, TaskID

from bench.arguments import parser, plan
from bench.contest import Contest
from bench.databases import DATABASES
from bench.drivers.found import find_driver
from bench.processes import temporary_folder
from bench.record import Plan, Run, machine, versions, write
from bench.report.files import RESULTS, publish
from bench.report.tables import detailed
from bench.terminal import attempt, progress_bar


def main() -> int:
    """Run what the command line asks for."""
    return attempt(partial(work, parser().parse_args()))


def work(arguments: argparse.Namespace, console: Console) -> None:
    """Measure, print and publish."""
    run = measured(plan(arguments), console)
    output = arguments.output or RESULTS / f"{arguments.preset}.json"
    write(output, run)
    sys.stdout.write(f"{detailed(run)}\n")
    console.print("written:", *map(str, (output, *publish(output))), highlight=False, soft_wrap=True)


def measured(plan: Plan, console: Console) -> Run:
    """Run every part of a plan, one after the other."""
    driver = find_driver()
    run = Run(started=datetime.now(UTC), plan=plan, machine=machine(), versions=versions(driver.version))
    with progress_bar(console) as progress:
        for part in plan.parts:
            task = progress.add_task("the database starts")
            with temporary_folder() as folder, DATABASES[part.database](folder) as database:
                run.versions.update(versions(database.version))
                compete(Contest(plan, part, database, driver, folder), run, progress, task)
    return run


def compete(contest: Contest, run: Run, progress: Progress, task: TaskID) -> None:
    """Give everybody every turn, and note the samples."""
    cells = {entry.key: contest.cells(entry) for entry in contest.contestants}
    total = sum(len(crowds) for asked in cells.values() for _, crowds in asked)
    progress.update(task, total=contest.plan.rounds * total)
    for number, contestant in contest.turns():
        prefix = f"{contest.part.database} · round {number} · {contestant.title}"
        progress.update(task, description=f"{prefix} · starts")
        with contest.started(number, contestant) as server:
            run.starts.append(contest.examine(server))
            for workload, crowds in cells[contestant.key]:
                contest.warm_up(server, workload, crowds)
                for connections in crowds:
                    progress.update(task, description=f"{prefix} · {workload.title} · {connections} connections")
                    run.samples.append(contest.measure(server, workload, connections))
                    progress.advance(task)


if __name__ == "__main__":
    sys.exit(main())
