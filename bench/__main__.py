"""The command line: `python -m bench` runs the contest and prints a Markdown table."""

import argparse
import signal
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Never

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench.answers import WrongAnswerError
from bench.contest import Contest
from bench.contestants import CONTESTANTS
from bench.driver import find_driver
from bench.postgres import postgres
from bench.processes import ProcessError
from bench.record import Plan, Run, machine, versions
from bench.report import markdown
from bench.sqlite import sqlite
from bench.workloads import WORKLOADS

DATABASES = {"postgres": postgres, "sqlite": sqlite}
# SQLite has one writer, so it is given to one process.
WORKERS = {"postgres": 2, "sqlite": 1}
OUTPUT = Path("bench/results/latest.json")
INTERRUPTED = 130


def main() -> int:
    """Run what the command line asks for."""
    arguments = _parser().parse_args()
    console = Console(stderr=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        run = _run(_plan(arguments), console)
    except (ProcessError, WrongAnswerError) as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("stopped; everything that was started has ended")
        return INTERRUPTED
    _write(arguments.output, run)
    sys.stdout.write(f"{markdown(run)}\n")
    return 0


def _run(plan: Plan, console: Console) -> Run:
    driver = find_driver()
    contestants = [entry for entry in CONTESTANTS if entry.key in plan.contestants]
    workloads = [entry for entry in WORKLOADS if entry.key in plan.workloads]
    cells = [(workload, connections) for workload in workloads for connections in plan.connections]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        progress = stack.enter_context(_progress(console))
        task = progress.add_task("the database starts", total=plan.rounds * len(contestants) * len(cells))
        database = stack.enter_context(DATABASES[plan.database](folder, plan.rows))
        contest = Contest(plan, contestants, workloads, database, driver, folder)
        run = Run(
            started=datetime.now(UTC),
            plan=plan,
            machine=machine(folder),
            versions=versions(database=database.version, driver=driver.version),
        )
        for number, contestant in contest.turns():
            prefix = f"round {number} · {contestant.title}"
            progress.update(task, description=f"{prefix} · starts")
            with contest.started(number, contestant) as server:
                run.starts.append(contest.examine(server))
                for workload, connections in cells:
                    progress.update(task, description=f"{prefix} · {workload.title} · {connections} connections")
                    run.samples.append(contest.measure(server, workload, connections))
                    progress.advance(task)
    return run


def _progress(console: Console) -> Progress:
    figures = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*figures, TextColumn("{task.description}"), console=console)


def _interrupt(_number: int, _frame: object) -> Never:
    # Once is enough: what follows is the clean-up, which has its own bounds.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _write(output: Path, run: Run) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")


def _plan(arguments: argparse.Namespace) -> Plan:
    return Plan(
        database=arguments.database,
        contestants=arguments.contestants,
        workloads=arguments.workloads,
        connections=arguments.connections,
        workers=arguments.workers or WORKERS[arguments.database],
        rounds=arguments.rounds,
        duration_seconds=arguments.duration,
        warm_up_seconds=arguments.warm_up,
        rows=arguments.rows,
    )


def _parser() -> argparse.ArgumentParser:
    description = "Measure this service beside others over the same table."
    parser = argparse.ArgumentParser(prog="python -m bench", description=description)
    add = parser.add_argument
    add("--database", choices=DATABASES, default="postgres", help="what keeps the items (%(default)s)")
    _add_some(parser, "--contestants", [entry.key for entry in CONTESTANTS], "who takes part")
    _add_some(parser, "--workloads", [entry.key for entry in WORKLOADS], "what is asked")
    add("--connections", nargs="+", type=_positive, default=[64], metavar="N", help="how many ask at once (64)")
    add("--workers", type=_positive, metavar="N", help="processes of each contestant (PostgreSQL 2, SQLite 1)")
    add("--rounds", type=_positive, default=3, metavar="N", help="how often everybody has a turn (%(default)s)")
    add("--duration", type=_positive, default=5, metavar="S", help="seconds of each measurement (%(default)s)")
    add("--warm-up", type=_positive, default=1, metavar="S", help="seconds of the same load before it (%(default)s)")
    add("--rows", type=_positive, default=10_000, metavar="N", help="items in the table at the start (%(default)s)")
    add("--output", type=Path, default=OUTPUT, metavar="FILE", help="where the raw figures go (%(default)s)")
    return parser


def _add_some(parser: argparse.ArgumentParser, option: str, keys: list[str], question: str) -> None:
    explanation = f"{question}: any of {', '.join(keys)} (all)"
    parser.add_argument(option, nargs="+", choices=keys, default=keys, metavar="KEY", help=explanation)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
