"""What the command line of `python -m bench` takes."""

import argparse
from pathlib import Path
from tempfile import TemporaryFile

from msgspec.structs import replace

from bench.contestants import CONTESTANTS
from bench.databases import DATABASES
from bench.presets import PRESETS, narrowed
from bench.record import Plan
from bench.report.files import NARROWED, RESULTS
from bench.workloads import WORKLOADS

DEFAULT = "short"
ROWS_MIN = 100


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
    parser = argparse.ArgumentParser(prog="python -m bench", description=description, allow_abbrev=False)
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
        "duration": "whole seconds of each measurement",
        "warm-up": "seconds of the same load before it",
    }
    add("--connections", nargs="+", type=positive, metavar="N", help="how many ask at once")
    for name, explanation in numbers.items():
        add(f"--{name}", type=positive, metavar="N", help=f"{explanation} (the preset's)")
    add("--rows", type=enough, metavar="N", help=f"items in the table at the start, {ROWS_MIN} at least (the preset's)")
    add_output(parser, f"{RESULTS}/PRESET.json, or {NARROWED} for a part of one")
    return parser


def is_narrowed(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> bool:
    """Return whether the command line asks for anything else than what is there by default, or a preset as it is."""
    own = {"preset", "output"}
    return any(value != parser.get_default(name) for name, value in vars(arguments).items() if name not in own)


def add_output(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the option that says where figures go."""
    parser.add_argument("--output", type=writable, metavar="FILE", help=f"where the raw figures go ({default})")


def writable(text: str) -> Path:
    """Read the path of a file that can be written, before an hour is spent on what goes there."""
    path = Path(text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be written: {error.strerror}") from None
    return path


def enough(text: str) -> int:
    """Read a number of items that fill the largest page."""
    number = positive(text)
    if number < ROWS_MIN:
        raise argparse.ArgumentTypeError(f"must be at least {ROWS_MIN}")
    return number


def add_some(
    parser: argparse.ArgumentParser, option: str, keys: list[str], question: str, default: list[str] | None = None
) -> None:
    """Add an option that takes some of several keys."""
    explanation = f"{question}: any of {', '.join(keys)} (the preset's)"
    parser.add_argument(option, nargs="+", choices=keys, default=default, metavar="KEY", help=explanation)


def positive(text: str) -> int:
    """Read a whole number that is at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)
