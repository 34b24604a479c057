"""A run as tables in Markdown: all of it, and the few lines that the README shows."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from bench.contestants import BASELINE, CONTESTANTS, OURS
from bench.databases import TITLES as DATABASE_TITLES
from bench.record import Growth, Part, Run, Start
from bench.report.circumstances import caveats, facts
from bench.report.medians import Figure, Figures, GrowthKey, Key, figures, grown, multiple
from bench.workloads import GET, GROWTH_WORKLOADS, LIST, POST, WORKLOADS

TITLES = {entry.key: entry.title for entry in CONTESTANTS}
QUESTIONS = {entry.key: entry.title for entry in GROWTH_WORKLOADS}
MEBIBYTE = 2**20
NOTHING = "–"
CROWD = 64

Table = list[list[str]]


def detailed(run: Run) -> str:
    """Render the whole run, circumstances and caveats first."""
    opening = [*(f"**{name}**: {value}" for name, value in facts(run).items()), *caveats(run)]
    parts = [
        f"## {DATABASE_TITLES[part.database]}\n\n{markdown(cells(run, part), words=3)}\n\n"
        f"{markdown(beside(run, part), words=1)}"
        for part in run.plan.parts
    ]
    return "\n\n".join(
        ["\n".join(f"- {line}" for line in opening), *parts, "## At rest", markdown(starts(run), words=2)]
    )


def summary(run: Run) -> str:
    """Render what the README shows: the requests per second of every contestant."""
    found = figures(run)
    tables = [markdown(table, words=1) for part in run.plan.parts if len(table := overview(found, part)) > 1]
    known = facts(run)
    opening = f"Measured {known['measured']} with Python {run.versions['Python']} on one machine: {known['machine']}."
    return "\n\n".join([opening, *tables])


def markdown(table: Table, *, words: int) -> str:
    """Write a table whose first columns are words and whose others are numbers."""
    head, *body = table
    rule = ["---" if column < words else "--:" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def cells(run: Run, part: Part) -> Table:
    """Tabulate every cell of a part."""
    found = figures(run)
    head = ["", "contestant", "connections", "requests/s", "× FastAPI", "items/s", "p50 ms", "p99 ms"]
    return [[*head, "CPU µs/request", "MiB/worker", "errors"], *_cells(found, part)]


def _cells(found: Figures, part: Part) -> Iterator[list[str]]:
    for workload in WORKLOADS:
        for connections in part.cells.get(workload.key, []):
            for contestant in part.contestants:
                key = Key(part.database, workload.key, connections, contestant)
                if key in found:
                    yield [workload.title, TITLES[contestant], str(connections), *_measures(found, key)]


def _measures(found: Figures, key: Key) -> list[str]:
    figure = found[key]
    return [
        f"{figure.rate:,.0f}",
        _times(figure, found.get(key._replace(contestant=BASELINE))),
        f"{figure.rate * figure.items:,.0f}",
        f"{figure.p50_ms:.2f}",
        f"{figure.p99_ms:.2f}",
        f"{figure.cpu_us:,.0f}",
        _mebibytes(figure.rss_bytes),
        str(figure.errors),
    ]


def overview(found: Figures, part: Part) -> Table:
    """Tabulate a part's contestants against what they were asked, in requests/s and multiples of the baseline."""
    wanted = [(GET, CROWD), (POST, CROWD), (LIST, CROWD), (GET, 8), (GET, 1)]
    asked = [(entry, crowd) for entry, crowd in wanted if crowd in part.cells.get(entry.key, [])]
    head = [
        f"{entry.title}, {crowd} connections" if crowd > 1 else f"{entry.title}, 1 connection" for entry, crowd in asked
    ]
    table = [[f"{DATABASE_TITLES[part.database]}, requests/s", *head]]
    for contestant in part.contestants:
        keys = [Key(part.database, entry.key, crowd, contestant) for entry, crowd in asked]
        table.append([TITLES[contestant], *(_rate(found, key) for key in keys)])
    return table


def beside(run: Run, part: Part) -> Table:
    """Tabulate this service's rate in multiples of everybody's: the median of the rounds' ratios."""
    asked = [(entry, crowd) for entry in (GET, POST, LIST) for crowd in part.cells.get(entry.key, [])]
    head = [f"{entry.title}, {crowd}" for entry, crowd in asked]
    table = [["this service in multiples of", *head]]
    for contestant in part.contestants:
        if contestant != OURS:
            keys = [Key(part.database, entry.key, crowd, contestant) for entry, crowd in asked]
            multiples = [multiple(run, key._replace(contestant=OURS), key) for key in keys]
            table.append([TITLES[contestant], *(f"{each:.2f}" if each else NOTHING for each in multiples)])
    return table


def _rate(found: Figures, key: Key) -> str:
    figure = found.get(key)
    if figure is None:
        return NOTHING
    times = _times(figure, found.get(key._replace(contestant=BASELINE)))
    return f"{figure.rate:,.0f} ({times}×)" if times != NOTHING else f"{figure.rate:,.0f}"


def _times(figure: Figure, baseline: Figure | None) -> str:
    return f"{figure.rate / baseline.rate:.1f}" if baseline and baseline.rate else NOTHING


def starts(run: Run) -> Table:
    """Tabulate what everybody needs to start, and at rest."""
    table = [["", "contestant", "ready after s", "MiB/worker"]]
    for part in run.plan.parts:
        for contestant in part.contestants:
            noted = [x for x in run.starts if (x.database, x.contestant) == (part.database, contestant)]
            if _serves(noted):
                table.append([DATABASE_TITLES[part.database], TITLES[contestant], *_start(noted)])
    return table


def growth_table(growth: Growth) -> str:
    """Render how the service grows."""
    return markdown(growth_cells(growth), words=2)


def growth_cells(growth: Growth) -> Table:
    """Tabulate what every question costs on every size of table."""
    head = ["", "question", "rows", "p50 ms", "p99 ms", "CPU µs/request", "requests/s", "errors"]
    return [head, *(_grown(key, figure) for key, figure in grown(growth).items())]


def _grown(key: GrowthKey, figure: Figure) -> list[str]:
    measures = [f"{figure.p50_ms:.3f}", f"{figure.p99_ms:.3f}", f"{figure.cpu_us:,.0f}", f"{figure.rate:,.0f}"]
    return [DATABASE_TITLES[key.database], QUESTIONS[key.workload], f"{key.rows:,}", *measures, str(figure.errors)]


def _serves(noted: Iterable[Start]) -> bool:
    return any(start.rss_bytes for start in noted)


def _start(noted: Sequence[Start]) -> list[str]:
    return [f"{median(x.ready_seconds for x in noted):.2f}", _mebibytes(median(x.rss_bytes for x in noted))]


def _mebibytes(count: float) -> str:
    return f"{count / MEBIBYTE:.0f}" if count else NOTHING
