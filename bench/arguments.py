"""What the command line of `python -m bench` takes."""

import argparse
from pathlib import Path

from msgspec.structs import replace

from bench.contestants import CONTESTANTS
from bench.databases import DATABASES
from bench.presets import PRESETS, narrowed
from bench.record import Plan
from bench.report.files import RESULTS
from bench.workloads import WORKLOADS

DEFAULT = "short"


def plan(arguments: argparse.Namespace) -> Plan:
    """Take the preset, and put in place what the command line names."""
    preset = PRESETS[arguments.preset]()
    parts = [
        narrowed(
            replace(part, workers=part.workers if part.database == "sqlite" else arguments.workers or part.workers),
            contestants=arguments.contestants,
            workloads=arguments.workloads,
            connections=arguments.connections,
        )
        for part in preset.parts
        if part.database in arguments.databases
    ]
    return Plan(
        parts=[part for part in parts if part.contestants],
        rounds=arguments.rounds or preset.rounds,
        duration_seconds=arguments.duration or preset.duration_seconds,
        warm_up_seconds=arguments.warm_up or preset.warm_up_seconds,
        rows=arguments.rows or preset.rows,
    )


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    description = "Measure this service beside others over the same table."
    parser = argparse.ArgumentParser(prog="python -m bench", description=description)
    add = parser.add_argument
    preset = parser.add_mutually_exclusive_group()
    for key, builder in PRESETS.items():
        explanation = (builder.__doc__ or "").replace("Plan", "run", 1).rstrip(".")
        preset.add_argument(
            f"--{key}",
            dest="preset",
            action="store_const",
            const=key,
            help=explanation + " (default)" * (key == DEFAULT),
        )
    parser.set_defaults(preset=DEFAULT)
    add_some(parser, "--databases", [*DATABASES], "what stores the items", default=[*DATABASES])
    add_some(parser, "--contestants", [entry.key for entry in CONTESTANTS], "who takes part")
    add_some(parser, "--workloads", [entry.key for entry in WORKLOADS], "what is asked")
    numbers = {
        "workers": "processes of each contestant on PostgreSQL",
        "rounds": "how often everybody is measured",
        "duration": "seconds of each measurement",
        "warm-up": "seconds of the same load before it",
        "rows": "items in the table at the start, 100 at least",
    }
    add("--connections", nargs="+", type=positive, metavar="N", help="how many ask at once")
    for name, explanation in numbers.items():
        add(f"--{name}", type=positive, metavar="N", help=f"{explanation} (the preset's)")
    add("--output", type=Path, metavar="FILE", help=f"where the raw figures go ({RESULTS}/PRESET.json)")
    return parser


def add_some(
    parser: argparse.ArgumentParser, option: str, keys: list[str], question: str, default: list[str] | None = None
) -> None:
    """Add an option that takes some of several keys."""
    explanation = f"{question}: any of {', '.join(keys)} (the preset's)"
    parser.add_argument(option, nargs="+", choices=keys, default=default, metavar="KEY", help=explanation)


def positive(text: str) -> int:
    """Read a number that is at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number
