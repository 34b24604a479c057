"""Bars: one panel for each workload, one row for each contestant, a whisker from the slowest to the fastest round."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from bench.report.svg import brief, element, line, linear, picture, round_steps, text, title

COLUMNS = 3
LABEL_WIDTH, PANEL_WIDTH, VALUE_WIDTH, GAP = 216, 210, 56, 22
HEAD, ROW, BAR, FOOT = 46, 27, 17, 30


class Bar(NamedTuple):
    """A value, and between which two it moved."""

    value: float
    low: float
    high: float


class Row(NamedTuple):
    """A contestant: its key is its colour; `bars` has one for each panel, or None."""

    key: str
    title: str
    bars: Sequence[Bar | None]


class Panel(NamedTuple):
    """What stands above bars, in two lines."""

    title: str
    unit: str


def bars(panels: Sequence[Panel], rows: Sequence[Row], *, label: str) -> str:
    """Draw the panels, so many beside each other and the others below, each with its own scale."""
    band = HEAD + len(rows) * ROW + FOOT
    drawn = []
    for start in range(0, len(panels), COLUMNS):
        names = [
            text(row.title, LABEL_WIDTH - 12, _middle(index) + 4, class_=f"name {row.key}", text_anchor="end")
            for index, row in enumerate(rows)
        ]
        columns = range(start, min(start + COLUMNS, len(panels)))
        beside = [_panel(column, panels[column], rows) for column in columns]
        drawn.append(element("g", *names, *beside, transform=f"translate(0 {start // COLUMNS * band})"))
    width = LABEL_WIDTH + COLUMNS * (PANEL_WIDTH + VALUE_WIDTH + GAP) - GAP
    return picture(width, len(drawn) * band, *drawn, label=label)


def _panel(column: int, panel: Panel, rows: Sequence[Row]) -> str:
    left = LABEL_WIDTH + column % COLUMNS * (PANEL_WIDTH + VALUE_WIDTH + GAP)
    highest = max((bar.high for row in rows if (bar := row.bars[column])), default=0.0) or 1.0
    scale = linear(highest, left, left + PANEL_WIDTH)
    bottom = HEAD + len(rows) * ROW
    grid = [
        line(scale(step), HEAD - 6, scale(step), bottom, class_="grid")
        + text(brief(step), scale(step), bottom + 16, class_="tick", text_anchor="middle")
        for step in round_steps(highest, 3)
    ]
    drawn = [_bar(index, row, row.bars[column], left, scale) for index, row in enumerate(rows)]
    heads = text(panel.title, left, 16, class_="head"), text(panel.unit, left, 32, class_="tick")
    return "".join([*heads, *grid, *drawn])


def _bar(index: int, row: Row, bar: Bar | None, left: float, scale: Callable[[float], float]) -> str:
    middle = _middle(index)
    if bar is None:
        return text("–", left + 4, middle + 4, class_="tick")
    caption = title(f"{row.title}: {bar.value:,.4g} ({bar.low:,.4g} to {bar.high:,.4g})")
    width = max(1.0, scale(bar.value) - left)
    body = element("rect", caption, x=left, y=middle - BAR / 2, width=width, height=BAR, rx=2, class_=f"bar {row.key}")
    whisker = line(scale(bar.low), middle, scale(bar.high), middle, class_="whisker")
    return body + whisker + text(brief(bar.value), scale(max(bar.value, bar.high)) + 6, middle + 4, class_="value")


def _middle(index: int) -> float:
    return HEAD + index * ROW + ROW / 2
