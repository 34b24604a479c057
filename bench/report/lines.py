"""Lines: panels with both axes logarithmic, each line named at its end."""

from collections.abc import Sequence
from typing import NamedTuple

from bench.report.svg import (
    Scale,
    brief,
    element,
    line,
    logarithmic,
    picture,
    polyline,
    round_decades,
    text,
    title,
)

LEFT, PLOT_WIDTH, NAMES_WIDTH = 52, 330, 178
TOP, PLOT_HEIGHT, FOOT = 46, 270, 58
NAME_HEIGHT = 14.5


class Line(NamedTuple):
    """A contestant or a question: its key is its colour; points are places on both axes."""

    key: str
    title: str
    points: Sequence[tuple[float, float]]


class Panel(NamedTuple):
    """Lines on common axes."""

    title: str
    unit: str
    axis: str
    lines: Sequence[Line]


def lines(panels: Sequence[Panel], *, label: str, columns: int = 2) -> str:
    """Draw all panels, so many beside each other."""
    width, height = LEFT + PLOT_WIDTH + NAMES_WIDTH, TOP + PLOT_HEIGHT + FOOT
    places = [(index % columns * width, index // columns * height) for index in range(len(panels))]
    drawn = [
        element("g", _panel(panel), transform=f"translate({x} {y})")
        for panel, (x, y) in zip(panels, places, strict=True)
    ]
    rows = -(-len(panels) // columns)
    return picture(min(columns, len(panels)) * width, rows * height, *drawn, label=label)


def _panel(panel: Panel) -> str:
    places = [point for each in panel.lines for point in each.points]
    across, upwards = [x for x, _ in places], [y for _, y in places]
    lowest, highest = min(upwards) / 1.25, max(upwards) * 1.25
    x_scale = logarithmic(min(across), max(across), LEFT + 10, LEFT + PLOT_WIDTH - 10)
    y_scale = logarithmic(lowest, highest, TOP + PLOT_HEIGHT, TOP)
    heads = text(panel.title, LEFT, 16, class_="head") + text(panel.unit, LEFT, 32, class_="tick")
    axes = _axes(sorted(set(across)), [*round_decades(lowest, highest)], x_scale, y_scale)
    under = text(panel.axis, LEFT + PLOT_WIDTH / 2, TOP + PLOT_HEIGHT + 34, class_="tick", text_anchor="middle")
    drawn = [_line(each, x_scale, y_scale) for each in panel.lines]
    return "".join([heads, axes, under, *drawn, _names(panel.lines, y_scale)])


def _axes(across: Sequence[float], upwards: Sequence[float], x_scale: Scale, y_scale: Scale) -> str:
    bottom = TOP + PLOT_HEIGHT
    columns = [
        line(x_scale(x), TOP, x_scale(x), bottom, class_="grid")
        + text(brief(x), x_scale(x), bottom + 16, class_="tick", text_anchor="middle")
        for x in across
    ]
    rows = [
        line(LEFT, y_scale(y), LEFT + PLOT_WIDTH, y_scale(y), class_="grid")
        + text(brief(y), LEFT - 7, y_scale(y) + 4, class_="tick", text_anchor="end")
        for y in upwards
    ]
    return "".join(columns + rows)


def _line(each: Line, x_scale: Scale, y_scale: Scale) -> str:
    points = [(x_scale(x), y_scale(y)) for x, y in each.points]
    marks = [
        element("circle", title(f"{each.title}: {y:,.4g} at {x:,.0f}"), cx=px, cy=py, r=3, class_=f"mark {each.key}")
        for (px, py), (x, y) in zip(points, each.points, strict=True)
    ]
    return polyline(points, class_=f"line {each.key}") + "".join(marks)


def _names(series: Sequence[Line], y_scale: Scale) -> str:
    # From the top down, each at least one line of text below the one before; then from the bottom up, if they ran out.
    ends = sorted((y_scale(each.points[-1][1]), each) for each in series if each.points)
    places: list[float] = []
    for wanted, _ in ends:
        places.append(max(wanted, places[-1] + NAME_HEIGHT if places else TOP))
    for index in range(len(places) - 1, -1, -1):
        lowest = places[index + 1] - NAME_HEIGHT if index + 1 < len(places) else TOP + PLOT_HEIGHT
        places[index] = min(places[index], lowest)
    return "".join(
        line(LEFT + PLOT_WIDTH - 6, end, LEFT + PLOT_WIDTH + 8, place, class_="leader")
        + text(each.title, LEFT + PLOT_WIDTH + 12, place + 4, class_=f"end {each.key}")
        for place, (end, each) in zip(places, ends, strict=True)
    )
