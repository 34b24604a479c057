"""Where figures and reports lie: a run's table and page beside its raw JSON."""

from pathlib import Path

import msgspec

from bench.record import Growth, Run
from bench.report.medians import figures
from bench.report.page import page
from bench.report.plots import RATE, compared
from bench.report.style import standalone
from bench.report.tables import summary

RESULTS = Path("bench/results")
GROWTH = RESULTS / "growth.json"


def publish(file: Path) -> list[Path]:
    """Write the README's table and plot, and the page, of a run; returns these files."""
    run = msgspec.json.decode(file.read_bytes(), type=Run)
    growth = msgspec.json.decode(GROWTH.read_bytes(), type=Growth) if GROWTH.exists() else None
    written = {
        file.with_suffix(".md"): f"{summary(run)}\n",
        file.with_suffix(".svg"): standalone(compared(figures(run), run.plan.parts[0], RATE)),
        file.with_suffix(".html"): page(run, growth),
    }
    for path, content in written.items():
        path.write_text(content, encoding="utf-8")
    return [*written]


def publish_all() -> list[Path]:
    """Write them for every run that there is."""
    runs = [file for file in sorted(RESULTS.glob("*.json")) if file != GROWTH]
    return [path for file in runs for path in publish(file)]
