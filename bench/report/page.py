"""One page with all of a run: it stands alone, without scripts or anything from elsewhere."""

from html import escape
from string import Template

from bench.contestants import BASELINE, OURS
from bench.databases import TITLES as DATABASE_TITLES
from bench.record import Growth, Part, Run
from bench.report import plots, style
from bench.report.circumstances import caveats, facts
from bench.report.medians import Figures, Key, figures
from bench.report.tables import CROWD, SEMANTICS, TITLES, Table, beside, cells, growth_cells, semantics, starts
from bench.workloads import COLD_PAGE, GET, GET_OF_MANY, LIST, MIXED, PAGE, POST, PUT, READ_BATCH, WRITE_BATCH

HTML = Template("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Items: the benchmark</title>
<style>
$style</style>
<h1>As fast as the database can go</h1>
<p class="lead">The item service beside its peers, over the same table and behind the same server.</p>
<section class="facts">$facts</section>
$tiles
$body
</html>
""")


def page(run: Run, growth: Growth | None) -> str:
    """Write the page."""
    found = figures(run)
    parts = "".join(_part(run, found, part) for part in run.plan.parts)
    ends = _growth(growth) if growth else ""
    does = _details("What everybody does for a request", semantics(run), words=1 + len(SEMANTICS))
    body = parts + ends + does + _details("What everybody needs at rest", starts(run), words=2)
    return HTML.substitute(style=style.PLOTS + style.PAGE, tiles=_tiles(found, run), facts=_facts(run), body=body)


def _tiles(found: Figures, run: Run) -> str:
    drawn = []
    for part in run.plan.parts:
        for workload in (PAGE, GET, POST):
            ours = found.get(Key(part.database, workload.key, CROWD, OURS))
            if ours and ours.times:
                caption = f"{workload.title}, {DATABASE_TITLES[part.database]}: {ours.rate:,.0f}/s"
                drawn.append(f'<div class="tile"><b>{ours.times:.0f}×</b><span>{escape(caption)}</span></div>')
    note = f'<p class="note">Multiples of {escape(TITLES[BASELINE])}, {CROWD} connections.</p>' if drawn else ""
    return f'<div class="tiles">{"".join(drawn)}</div>{note}' if drawn else ""


def _facts(run: Run) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts(run).items())
    return f"<dl>{rows}</dl><ul>{''.join(f'<li>{escape(caveat)}</li>' for caveat in caveats(run))}</ul>"


def _part(run: Run, found: Figures, part: Part) -> str:
    others, batches = (COLD_PAGE, GET_OF_MANY, LIST, PUT, MIXED), (READ_BATCH, WRITE_BATCH)
    drawn = [
        ("Throughput", plots.compared(found, part, plots.RATE)),
        ("", plots.compared(found, part, plots.RATE, others)),
        ("", plots.compared(found, part, plots.ITEMS, batches)),
        ("What a response costs", plots.compared(found, part, plots.CPU)),
        ("", plots.compared(found, part, plots.CPU, others)),
        ("Latency when more ask at once", plots.latency(found, part)),
    ]
    shown = "".join(_plot(heading, svg) for heading, svg in drawn if svg)
    title = DATABASE_TITLES[part.database]
    tables = _details(f"This service in multiples of everybody, {title}", beside(run, part), words=1)
    tables += _details(f"All figures, {title}", cells(run, part), words=3)
    return f"<h2>{title}</h2>{shown}{tables}"


def _growth(growth: Growth) -> str:
    note = (
        f"One connection, {growth.rounds} rounds of {growth.duration_seconds} s, {growth.started:%Y-%m-%d}; "
        + ", ".join(f"{name} {value}" for name, value in growth.machine.items())
    )
    plot = _plot("", plots.growth(growth))
    return f'<h2>Growth</h2><p class="note">{escape(note)}</p>{plot}' + _details(
        "All figures, growth", growth_cells(growth), words=2
    )


def _plot(heading: str, svg: str) -> str:
    return (f"<h3>{escape(heading)}</h3>" if heading else "") + f'<div class="plot">{svg}</div>'


def _details(summary: str, table: Table, *, words: int) -> str:
    return f"<details><summary>{escape(summary)}</summary>{_table(table, words)}</details>"


def _table(table: Table, words: int) -> str:
    head, *body = table
    rows = [_row(row, words, first=index == 0 or row[0] != body[index - 1][0]) for index, row in enumerate(body)]
    cells = "".join(_cell("th", value, word=column < words) for column, value in enumerate(head))
    return f'<div class="table"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _row(row: list[str], words: int, *, first: bool) -> str:
    classes = ["service"] * (TITLES[OURS] in row) + ["first"] * first
    cells = "".join(_cell("td", value, word=column < words) for column, value in enumerate(row))
    return f'<tr class="{" ".join(classes)}">{cells}</tr>'


def _cell(kind: str, value: str, *, word: bool) -> str:
    return f"<{kind}{' class=word' if word else ''}>{escape(value)}</{kind}>"
