"""The plots of a run, and of how the service grows."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from bench.contestants import CONTESTANTS
from bench.databases import TITLES as DATABASE_TITLES
from bench.record import Growth, Part
from bench.report import bars
from bench.report.bars import Bar
from bench.report.lines import Line, Panel, lines
from bench.report.medians import Figure, Figures, GrowthKey, Key, grown
from bench.report.tables import CROWD, grown_title
from bench.workloads import GET, PAGE, POST, Workload

SHORT_TITLES = {entry.key: entry.title.replace(" + SQLAlchemy", "").replace(" by hand", "") for entry in CONTESTANTS}
MAIN = (PAGE, GET, POST)

Measure = Callable[[Figure], float]


class Measured(NamedTuple):
    """What a bar shows."""

    label: str
    unit: str
    bar: Callable[[Figure], Bar]


RATE = Measured(
    "Requests answered in a second", "requests/s, more is better", lambda x: Bar(x.rate, x.rate_min, x.rate_max)
)
ITEMS = Measured(
    "Items in a second",
    "items/s, more is better",
    lambda x: Bar(x.rate * x.items, x.rate_min * x.items, x.rate_max * x.items),
)
CPU = Measured("Processor time of each request", "µs, less is better", lambda x: Bar(x.cpu_us, x.cpu_us, x.cpu_us))


def compared(found: Figures, part: Part, measured: Measured, workloads: Sequence[Workload] = MAIN) -> str:
    """Plot what everybody does, or what it costs."""
    asked = [(entry, _crowd(part, entry)) for entry in workloads if entry.key in part.cells]
    panels = [
        bars.Panel(entry.title.partition(":")[0], f"{crowd} connections, {measured.unit}") for entry, crowd in asked
    ]
    rows = []
    for contestant in part.contestants:
        of_this = [found.get(Key(part.database, entry.key, crowd, contestant)) for entry, crowd in asked]
        bars_of_this = [measured.bar(figure) if figure else None for figure in of_this]
        if any(bars_of_this):
            rows.append(bars.Row(contestant, SHORT_TITLES[contestant], bars_of_this))
    label = f"{measured.label}, {DATABASE_TITLES[part.database]}"
    return bars.bars(panels, rows, label=label) if panels else ""


def _crowd(part: Part, workload: Workload) -> int:
    crowds = part.cells[workload.key]
    return CROWD if CROWD in crowds else max(crowds)


def latency(found: Figures, part: Part) -> str:
    """Plot how long a response takes when more and more ask."""
    panels = [
        Panel(f"{entry.title}, {name}", "ms, less is better", "connections", _latencies(found, part, entry, measure))
        for entry in MAIN
        if len(part.cells.get(entry.key, [])) > 1
        for name, measure in (("median", _median), ("99th percentile", _tail))
    ]
    return lines(panels, label=f"Latency against connections, {DATABASE_TITLES[part.database]}") if panels else ""


def _latencies(found: Figures, part: Part, workload: Workload, measure: Measure) -> list[Line]:
    series = []
    for contestant in part.contestants:
        keys = [Key(part.database, workload.key, crowd, contestant) for crowd in part.cells[workload.key]]
        points = [(key.connections, measure(found[key])) for key in keys if key in found]
        series.append(Line(contestant, SHORT_TITLES[contestant], points))
    return [each for each in series if each.points]


def growth(record: Growth) -> str:
    """Plot what more rows cost."""
    found = grown(record)
    panels = [
        Panel(f"{DATABASE_TITLES[database]}, {name}", unit, "rows in the table", _growing(found, database, measure))
        for database in dict.fromkeys(key.database for key in found)
        for name, unit, measure in (("CPU for each request", "µs", _cpu), ("median latency", "ms", _median))
    ]
    return lines(panels, label="Growth with rows") if panels else ""


def _growing(found: Mapping[GrowthKey, Figure], database: str, measure: Measure) -> list[Line]:
    points: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for key, figure in found.items():
        if key.database == database:
            points[f"{key.workload}{'-cold' * key.cold}", grown_title(key)].append((key.rows, measure(figure)))
    return [Line(*names, places) for names, places in points.items()]


def _cpu(figure: Figure) -> float:
    return figure.cpu_us


def _median(figure: Figure) -> float:
    return figure.p50_ms


def _tail(figure: Figure) -> float:
    return figure.p99_ms
