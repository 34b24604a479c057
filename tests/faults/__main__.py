"""The long form of every fault: python -m tests.faults [NAME …]; figures go to docs/reliability.json."""

import argparse
import json
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.faults.scenarios import SCENARIOS

RESULTS = Path(__file__).parent.parent.parent / "docs" / "reliability.json"


def main() -> int:
    """Run what is named, or everything, and return the exit code: 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Put the service through faults.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(SCENARIOS)}; all by default")
    names = parser.parse_args().names or list(SCENARIOS)
    if unknown := set(names) - set(SCENARIOS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    return 0 if all([put_through(name) for name in names]) else 1  # noqa: C419 - each is run, whatever the others did


def put_through(name: str) -> bool:
    """Run one, print and store its figures, and return whether every promise was kept."""
    print(f"{name} …", flush=True)  # noqa: T201
    started = time.monotonic()
    try:
        figures = SCENARIOS[name]()
        kept = not figures.get("missed")
    except Exception:  # noqa: BLE001 - the others are run all the same
        traceback.print_exc()
        figures, kept = {"broken": traceback.format_exc().splitlines()[-1]}, False
    keep(name, {"date": f"{datetime.now(UTC):%Y-%m-%d}", "took_s": round(time.monotonic() - started), **figures})
    return kept


def keep(name: str, figures: dict[str, Any]) -> None:
    """Put the figures of one beside those of the others."""
    print(json.dumps(figures, indent=2), flush=True)  # noqa: T201
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**results, name: figures}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
