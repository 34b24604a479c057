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
from bench.databases import TITLES as DATABASE_TITLES
from bench.drivers.found import find_driver
from bench.processes import temporary_folder
from bench.record import Plan, Run, machine, versions, write
from bench.report.files import RESULTS, publish
from bench.report.tables import detailed
from bench.terminal import progress_bar, run_command


def main() -> int:
    """Run what the command line asks for."""
    return run_command(partial(work, parser().parse_args()))


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
            task = progress.add_task("database and contestants start")
            with temporary_folder() as folder, DATABASES[part.database](folder) as database:
                run.versions.update(versions(database.version))
                compete(Contest(plan, part, database, driver, folder), run, progress, task)
    return run


def compete(contest: Contest, run: Run, progress: Progress, task: TaskID) -> None:
    """Run every trial, and note the samples."""
    name = DATABASE_TITLES[contest.part.database]
    with contest.everybody() as servers:
        for server in servers:
            progress.update(task, description=f"{name} · {server.contestant.title} is checked")
            run.starts.append(contest.examine(server))
        contest.fill()
        workloads = [*contest.workloads(servers)]
        progress.update(task, total=sum(len([*contest.trials(*asked)]) for asked in workloads))
        for workload, asked in workloads:
            progress.update(task, description=f"{name} · {workload.title} · everybody warms up")
            for server in asked:
                contest.warm_up(server, workload, contest.part.cells[workload.key])
            for trial in contest.trials(workload, asked):
                title = (name, trial.workload.title, f"{trial.connections} connections", f"round {trial.round}")
                progress.update(task, description=" · ".join([*title, trial.server.contestant.title]))
                run.samples.append(contest.measure(trial))
                progress.advance(task)


if __name__ == "__main__":
    sys.exit(main())
