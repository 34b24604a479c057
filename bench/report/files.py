"""Where figures and reports lie: a run's table and page beside its raw JSON."""

from pathlib import Path

import msgspec

from bench.record import Growth, Run
from bench.report.medians import figures
from bench.report.page import page
from bench.report.plots import RATE, compared
from bench.report.style import standalone
from bench.report.tables import detailed, summary

RESULTS = Path("bench/results")
GROWTH = RESULTS / "growth.json"
NARROWED = RESULTS / "narrowed"  # figures of a part of a contest, which stand in the place of no others


def publish(file: Path) -> list[Path]:
    """Write the table and plot of a run, and its page; returns these files.

    The table of a preset is that of the documents, which has some of the cells, and its page has the growth beside it.
    """
    run = msgspec.json.decode(file.read_bytes(), type=Run)
    is_preset = file.parent == RESULTS
    growth = msgspec.json.decode(GROWTH.read_bytes(), type=Growth) if is_preset and GROWTH.exists() else None
    written = {
        file.with_suffix(".md"): f"{summary(run) if is_preset else detailed(run)}\n",
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
