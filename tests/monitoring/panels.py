"""Panels of the dashboard as SVG: numbers with their course behind them, lines, and areas on top of each other."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from bench.report.svg import Scale, element, line, linear, polyline, round_steps, text, title
from tests.monitoring.units import base, written

COLUMN, UNIT, GAP = 50, 24, 8
LEFT, RIGHT, TOP, FOOT = 52, 20, 34, 44
HUES = 12
LETTER = 5.9  # the width of one, on average, in the legend
LEGEND_LINE = 14
LABELS_S = 30


class Course(NamedTuple):
    """A series by its name, and its values by time, in seconds since the beginning."""

    name: str
    points: Sequence[tuple[float, float]]


class Frame(NamedTuple):
    """Where a panel is drawn, and how long the time is that it shows."""

    width: float
    height: float
    end_s: float

    @property
    def bottom(self) -> float:
        """Where the axis of time is."""
        return self.height - FOOT


def panel(described: Any, courses: Sequence[Course], end_s: float) -> str:
    """Draw a panel at its place of the grid."""
    place = described["gridPos"]
    frame = Frame(place["w"] * COLUMN - GAP, place["h"] * UNIT - GAP, end_s)
    card = element("rect", title(described["description"]), width=frame.width, height=frame.height, rx=4, class_="card")
    head = text(described["title"], 12, 21, class_="head")
    draw = _stat if described["type"] == "stat" else _graph
    drawn = draw(described["fieldConfig"]["defaults"], courses, frame)
    return element("g", card, head, drawn, transform=f"translate({place['x'] * COLUMN} {place['y'] * UNIT})")


def row(described: Any) -> str:
    """Draw the line above panels that has their common name."""
    return text(described["title"], 2, described["gridPos"]["y"] * UNIT + 16, class_="row")


def _stat(defaults: Mapping[str, Any], courses: Sequence[Course], frame: Frame) -> str:
    [course] = courses
    last = course.points[-1][1]
    across, upwards = (
        linear(frame.end_s, 0, frame.width),
        linear(_highest(courses, defaults), frame.height - 2, frame.height - 26),
    )
    colour = [
        step["color"] for step in defaults["thresholds"]["steps"] if step["value"] is None or last >= step["value"]
    ]
    value = text(written(last, defaults["unit"]), 12, 60, class_=f"stat {colour[-1]}")
    curve = [(across(x), upwards(y)) for x, y in course.points]
    ends = [(curve[-1][0], frame.height - 2), (curve[0][0], frame.height - 2)]
    return _area([*curve, *ends], 0) + value


def _graph(defaults: Mapping[str, Any], courses: Sequence[Course], frame: Frame) -> str:
    if not courses:
        return text("no data", frame.width / 2, frame.height / 2, class_="tick", text_anchor="middle")
    courses = sorted(courses, key=_peak, reverse=True)  # the legend may have no room for all
    is_stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    tops = _stacked(courses) if is_stacked else courses
    highest = _highest(tops, defaults)
    across, upwards = linear(frame.end_s, LEFT, frame.width - RIGHT), linear(highest, frame.bottom, TOP)
    curves = [[(across(x), upwards(y)) for x, y in course.points] for course in tops]
    floor = [(x, frame.bottom) for x, _ in curves[0]]
    bands = [_area([*below[::-1], *curve], number) for number, (below, curve) in enumerate(pairwise([floor, *curves]))]
    drawn = [polyline(curve, class_=f"line hue-{number % HUES}") for number, curve in enumerate(curves)]
    limit = _limit(defaults, highest, upwards, frame)
    axes = _axes(defaults["unit"], highest, across, upwards, frame)
    return "".join([axes, *bands * is_stacked, *drawn[::-1], limit, _legend([each.name for each in courses], frame)])


def _peak(course: Course) -> float:
    return max(y for _, y in course.points)


def _stacked(courses: Sequence[Course]) -> list[Course]:
    times = sorted({x for course in courses for x, _ in course.points})
    heights = [[dict(course.points).get(x, 0.0) for x in times] for course in courses]
    sums = accumulate(heights, lambda below, own: [a + b for a, b in zip(below, own, strict=True)])
    return [
        Course(course.name, list(zip(times, tops, strict=True))) for course, tops in zip(courses, sums, strict=True)
    ]


def _highest(courses: Sequence[Course], defaults: Mapping[str, Any]) -> float:
    values = [y for course in courses for _, y in course.points]
    return float(max([*values, defaults.get("max", 0)])) * 1.08 or 1.0


def _axes(unit: str, highest: float, across: Scale, upwards: Scale, frame: Frame) -> str:
    steps = [step * base(unit) for step in round_steps(highest / base(unit), 4)]
    rows = [
        line(LEFT, upwards(step), frame.width - RIGHT, upwards(step), class_="grid")
        + text(written(step, unit), LEFT - 6, upwards(step) + 4, class_="tick", text_anchor="end")
        for step in steps
    ]
    times = [
        text(f"{second} s", across(second), frame.bottom + 14, class_="tick", text_anchor="middle")
        for second in range(0, int(frame.end_s) + 1, LABELS_S)
    ]
    return "".join(rows + times)


def _area(corners: Sequence[tuple[float, float]], number: int) -> str:
    return element(
        "polygon", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in corners), class_=f"area hue-{number % HUES}"
    )


def _limit(defaults: Mapping[str, Any], highest: float, upwards: Scale, frame: Frame) -> str:
    if "thresholdsStyle" not in defaults["custom"]:
        return ""
    limit = defaults["thresholds"]["steps"][-1]["value"]
    place = upwards(limit)
    if limit > highest:
        return text(
            f"limit {written(limit, defaults['unit'])}", frame.width - 12, 21, class_="limit", text_anchor="end"
        )
    return line(LEFT, place, frame.width - RIGHT, place, class_="limit")


def _legend(names: Sequence[str], frame: Frame) -> str:
    x = 12.0
    drawn: list[str] = []
    for number, name in enumerate(names):
        width = 16 + LETTER * len(name)
        if x + width + 70 * (number < len(names) - 1) > frame.width:
            return "".join(drawn) + text(f"and {len(names) - number} more", x, frame.height - 10, class_="tick")
        drawn.append(element("rect", x=x, y=frame.height - 16, width=8, height=3, class_=f"mark hue-{number % HUES}"))
        drawn.append(text(name, x + 12, frame.height - 10, class_="tick"))
        x += width + 10
    return "".join(drawn)
