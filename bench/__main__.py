"""The command line: `python -m bench` runs a contest and writes its raw figures, a table and a report."""

import argparse
import sys
from datetime import UTC, datetime
from functools import partial

from msgspec.structs import replace
from rich.console import Console
from rich.progress import Progress, TaskID

from bench.arguments import is_narrowed, parser, plan
from bench.builds import CannotBuildError
from bench.contest import Contest
from bench.contestants import CONTESTANTS
from bench.databases import DATABASES
from bench.databases import TITLES as DATABASE_TITLES
from bench.drivers.found import find_driver
from bench.drivers.locust import Locust
from bench.presets import answerable
from bench.processes import temporary_folder
from bench.record import Plan, Run, machine, named, versions, write
from bench.report.files import NARROWED, RESULTS, publish
from bench.report.tables import detailed
from bench.terminal import NobodyAnswersError, progress_bar, run_command

NO_WRK = (
    "wrk is not on the PATH, so locust asks, which takes more of the processors than most contestants: its figures are "
    "not comparable with those of wrk; on Debian, apt-get install wrk"
)


def main() -> int:
    """Run what the command line asks for."""
    arguments = parser().parse_args()
    if arguments.output is None:
        arguments.output = (NARROWED if is_narrowed(arguments, parser()) else RESULTS) / f"{arguments.preset}.json"
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
    return run_command(partial(work, arguments))


def work(arguments: argparse.Namespace, console: Console) -> None:
    """Measure, print and publish."""
    built, built_versions = build(plan(arguments), console)
    run = measured(built, console)
    run.versions.update(built_versions)
    write(arguments.output, run)
    sys.stdout.write(f"{detailed(run)}\n")
    written = map(str, (arguments.output, *publish(arguments.output)))
    console.print("written:", *written, highlight=False, soft_wrap=True)


def build(plan: Plan, console: Console) -> tuple[Plan, dict[str, str]]:
    """Build who has to be built, and return the plan of those who can take part, with the versions of their parts.

    Raise NobodyAnswersError if nobody can.
    """
    found: dict[str, str] = {}
    left_out: set[str] = set()
    for contestant in CONTESTANTS:
        if contestant.build and any(contestant.key in part.contestants for part in plan.parts):
            try:
                with console.status(f"{contestant.title} is built"):
                    found |= named(contestant.build().versions)
            except CannotBuildError as error:
                left_out.add(contestant.key)
                console.print(f"{contestant.title} is left out: {error}", markup=False, highlight=False, soft_wrap=True)
    parts = [replace(part, contestants=[key for key in part.contestants if key not in left_out]) for part in plan.parts]
    answered = [part for part in map(answerable, parts) if part.cells]
    if not answered:
        raise NobodyAnswersError
    return replace(plan, parts=answered), found


def measured(plan: Plan, console: Console) -> Run:
    """Run every part of a plan, one after the other."""
    driver = find_driver()
    if isinstance(driver, Locust):
        console.print(NO_WRK, markup=False, highlight=False, soft_wrap=True)
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
    contest.fill()
    with contest.everybody() as servers:
        for server in servers:
            progress.update(task, description=f"{name} · {server.contestant.title} is checked")
            run.starts.append(contest.examine(server))
        workloads = [(workload, contest.asked(workload, servers)) for workload in contest.workloads()]
        progress.update(task, total=sum(contest.count(*each) for each in workloads))
        for workload, asked in workloads:
            progress.update(task, description=f"{name} · {workload.title} · everybody warms up")
            questions = contest.prepare(workload, asked)
            for question in questions:
                contest.warm_up(question)
            for trial in contest.trials(questions):
                title = (name, workload.title, f"{trial.connections} connections", f"round {trial.round}")
                progress.update(task, description=" · ".join([*title, trial.question.server.contestant.title]))
                run.samples.append(contest.measure(trial))
                progress.advance(task)


if __name__ == "__main__":
    sys.exit(main())
