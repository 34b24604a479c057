"""A run as tables in Markdown: all of it, its figures, and the one table that the README shows."""

from collections.abc import Callable, Iterator, Sequence
from statistics import median

from bench.contestants import CONTESTANTS, OURS
from bench.databases import TITLES as DATABASE_TITLES
from bench.record import Growth, Part, Run, Start
from bench.report.circumstances import caveats, facts
from bench.report.medians import Figure, Figures, GrowthKey, Key, Ratios, figures, grown
from bench.workloads import COLD_PAGE, GET, GROWTH_WORKLOADS, LIST, PAGE, POST, PUT, WORKLOADS, Workload

TITLES = {entry.key: entry.title for entry in CONTESTANTS}
QUESTIONS = {entry.key: entry.title for entry in GROWTH_WORKLOADS}
# What of each contestant's semantics is shown, and its heading.
SEMANTICS = {
    "server": "server",
    "connections": "connections to PostgreSQL",
    "statements": "statements",
    "transaction": "transaction",
    "durability": "a write is",
    "columns": "columns",
}
MEBIBYTE = 2**20
THREE_DIGITS = 100
NOTHING = "–"
CROWD = 64
OVERVIEW = [(entry, CROWD) for entry in (PAGE, COLD_PAGE, GET, POST, PUT)] + [(PAGE, 1), (GET, 1), (LIST, CROWD)]

Table = list[list[str]]


def detailed(run: Run) -> str:
    """Render the whole run, circumstances and caveats first."""
    opening = [*(f"**{name}**: {value}" for name, value in facts(run).items()), *caveats(run)]
    parts = [
        f"## {DATABASE_TITLES[part.database]}\n\n{markdown(cells(run, part), words=3)}\n\n"
        f"{markdown(beside(run, part), words=1)}"
        for part in run.plan.parts
    ]
    does = markdown(semantics(run), words=1 + len(SEMANTICS))
    rest = markdown(starts(run), words=2)
    return "\n\n".join(["\n".join(f"- {line}" for line in opening), "## Contestants", does, *parts, "## At rest", rest])


def summary(run: Run) -> str:
    """Render the figures: the requests per second and the latencies of every contestant, and what it does."""
    return "\n\n".join([_measured(run), *_overviews(run), markdown(semantics(run), words=1 + len(SEMANTICS))])


def headline(run: Run) -> str:
    """Render what the README shows: the requests per second of every contestant on the first database."""
    return "\n\n".join([_measured(run), _overviews(run)[0]])


def _measured(run: Run) -> str:
    known = facts(run)
    return f"Measured {known['measured']} with Python {run.versions['Python']} on one machine: {known['machine']}."


def _overviews(run: Run) -> list[str]:
    found = figures(run)
    return [
        markdown(overview(found, part, unit, value), words=1)
        for part in run.plan.parts
        for unit, value in (("requests/s", _rate), ("ms, median / 99th percentile", _latency))
    ]


def markdown(table: Table, *, words: int) -> str:
    """Write a table whose first columns are words and whose others are numbers."""
    head, *body = table
    rule = ["---" if column < words else "--:" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def cells(run: Run, part: Part) -> Table:
    """Tabulate every cell of a part."""
    found = figures(run)
    head = ["", "contestant", "connections", "requests/s", "× FastAPI", "items/s", "p50 ms", "p99 ms"]
    return [[*head, "CPU µs/request", "MiB", "errors"], *_cells(found, part)]


def _cells(found: Figures, part: Part) -> Iterator[list[str]]:
    for workload in WORKLOADS:
        for connections in part.cells.get(workload.key, []):
            for contestant in part.contestants:
                key = Key(part.database, workload.key, connections, contestant)
                if key in found:
                    yield [workload.title, TITLES[contestant], str(connections), *_measures(found[key])]


def _measures(figure: Figure) -> list[str]:
    return [
        f"{figure.rate:,.0f}",
        f"{figure.times:.1f}" if figure.times else NOTHING,
        f"{figure.rate * figure.items:,.0f}",
        f"{figure.p50_ms:.2f}",
        f"{figure.p99_ms:.2f}",
        f"{figure.cpu_us:,.0f}",
        _mebibytes(figure.pss_bytes),
        str(figure.errors),
    ]


def overview(found: Figures, part: Part, unit: str, value: Callable[[Figure], str]) -> Table:
    """Tabulate one value of a part's contestants against what they were asked."""
    asked = [(entry, crowd) for entry, crowd in OVERVIEW if crowd in part.cells.get(entry.key, [])]
    table = [[f"{DATABASE_TITLES[part.database]}, {unit}", *(_asked(entry, crowd) for entry, crowd in asked)]]
    for contestant in part.contestants:
        keys = [Key(part.database, entry.key, crowd, contestant) for entry, crowd in asked]
        table.append([TITLES[contestant], *(value(found[key]) if key in found else NOTHING for key in keys)])
    return table


def beside(run: Run, part: Part) -> Table:
    """Tabulate this service's rate in multiples of everybody's: the median of the rounds' ratios."""
    asked = [(entry, crowd) for entry in WORKLOADS for crowd in part.cells.get(entry.key, [])]
    ratios = Ratios(run)
    others = [contestant for contestant in part.contestants if contestant != OURS]
    table = [["this service in multiples of", *(TITLES[contestant] for contestant in others)]]
    for entry, crowd in asked:
        key = Key(part.database, entry.key, crowd, OURS)
        multiples = [ratios.median(key, contestant) for contestant in others]
        table.append([_asked(entry, crowd), *(f"{each:.2f}" if each else NOTHING for each in multiples)])
    return table


def semantics(run: Run) -> Table:
    """Tabulate what every contestant does for a request, as its row in the list of contestants has it."""
    workers = {contestant: part.workers for part in reversed(run.plan.parts) for contestant in part.contestants}
    does = {entry.key: entry.semantics for entry in CONTESTANTS if entry.key in workers}
    table = [["contestant", *SEMANTICS.values()]]
    for key, each in does.items():
        row = [getattr(each, name).format(workers=workers[key]) for name in SEMANTICS]
        table.append([TITLES[key], *row])
    return table


def _asked(entry: Workload, crowd: int) -> str:
    return f"{entry.title.partition(':')[0]}, {crowd} connection{'s' * (crowd > 1)}"


def _rate(figure: Figure) -> str:
    return f"{figure.rate:,.0f} ({figure.times:.1f}×)" if figure.times else f"{figure.rate:,.0f}"


def _latency(figure: Figure) -> str:
    return " / ".join(f"{ms:.3g}" if ms < THREE_DIGITS else f"{ms:,.0f}" for ms in (figure.p50_ms, figure.p99_ms))


def starts(run: Run) -> Table:
    """Tabulate what everybody needs to start, and at rest."""
    table = [["", "contestant", "ready after s", "MiB"]]
    for part in run.plan.parts:
        for contestant in part.contestants:
            noted = [x for x in run.starts if (x.database, x.contestant) == (part.database, contestant)]
            if any(start.ready_seconds for start in noted):
                table.append([DATABASE_TITLES[part.database], TITLES[contestant], *_start(noted)])
    return table


def grown_title(key: GrowthKey) -> str:
    """Return what was asked, and whether the first time."""
    return f"{QUESTIONS[key.workload]}{', cold' * key.cold}"


def growth_table(growth: Growth) -> str:
    """Render how the service grows."""
    return markdown(growth_cells(growth), words=2)


def growth_cells(growth: Growth) -> Table:
    """Tabulate what every question costs on every size of table."""
    head = ["", "question", "rows", "p50 ms", "p99 ms", "CPU µs/request", "requests/s", "errors"]
    return [head, *(_grown(key, figure) for key, figure in grown(growth).items())]


def _grown(key: GrowthKey, figure: Figure) -> list[str]:
    measures = [f"{figure.p50_ms:.3f}", f"{figure.p99_ms:.3f}", f"{figure.cpu_us:,.0f}", f"{figure.rate:,.0f}"]
    return [DATABASE_TITLES[key.database], grown_title(key), f"{key.rows:,}", *measures, str(figure.errors)]


def _start(noted: Sequence[Start]) -> list[str]:
    return [f"{median(x.ready_seconds for x in noted):.2f}", _mebibytes(median(x.pss_bytes for x in noted))]


def _mebibytes(count: float) -> str:
    return f"{count / MEBIBYTE:.0f}" if count else NOTHING
