"""The blocks of documents that come from the code: `python -m tests.documents` writes them, a test compares them."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import msgspec
from prometheus_client import Metric

from bench.record import Run
from bench.report.files import RESULTS
from bench.report.tables import headline, summary
from db.batching.queue import Limits
from db.engines.database import Options
from db.engines.engine import open_database
from db.engines.privileges import grants
from db.tables.storage import Storage
from service.app import worker_metrics
from service.command_line import main
from service.docs.page import PATH
from service.http.operation import Resource
from service.openapi.document import document
from service.routes import METRICS, ROUTES
from service.settings import Settings
from service.worker_state import WorkerState
from tests.faults.scenarios import SCENARIOS

# The codes that name a resource, and the section about them.
SECTIONS = {re.compile(r"\w+-not-found"): "resource-not-found", re.compile(r"owns-\w+"): "owns-resources"}

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
API = DOCS / "api.md"
SETTINGS = DOCS / "settings.md"
METRICS_PAGE = DOCS / "metrics.md"
OPERATIONS = DOCS / "operations.md"
PROBLEMS = DOCS / "problems.md"
PERFORMANCE = DOCS / "performance.md"
RELIABILITY = DOCS / "reliability.md"


def everything() -> dict[Path, str]:
    """Return each document with its blocks as the code has them now."""
    return {
        README: written(README, figures=figures(headline)),
        API: written(API, routes=routes()),
        SETTINGS: written(SETTINGS, settings=settings(), commands=commands()),
        OPERATIONS: written(OPERATIONS, grants=granted()),
        METRICS_PAGE: written(METRICS_PAGE, metrics=metrics()),
        PROBLEMS: written(PROBLEMS, problems=problems()),
        PERFORMANCE: written(PERFORMANCE, figures=figures(summary, base="../")),
        RELIABILITY: written(RELIABILITY, faults=faults()),
    }


def written(file: Path, **blocks: str) -> str:
    """Return a page with the content of each of its blocks in place."""
    page = file.read_text(encoding="utf-8")
    for name, content in blocks.items():
        page = replaced(page, name, content)
    return page


def block(page: str, name: str) -> str:
    """Return what stands between a block's marks."""
    match = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", page, re.DOTALL)
    assert match is not None, f"there is no block {name}"
    return match[1]


def replaced(page: str, name: str, content: str) -> str:
    """Put a block's content in place."""
    return page.replace(
        f"<!-- {name} -->\n{block(page, name)}<!-- /{name} -->", f"<!-- {name} -->\n{content}<!-- /{name} -->"
    )


def table(*rows: tuple[str, ...]) -> str:
    """Write a table, its first row the head."""
    head, *body = [f"| {' | '.join(row)} |\n" for row in rows]
    return head + f"|{' --- |' * len(rows[0])}\n" + "".join(body)


def figures(render: Callable[[Run], str], base: str = "") -> str:
    """Write the plot and the tables of the benchmark's last full run; `base` leads from the page to the project."""
    file = RESULTS / "full.json"
    if not file.exists():
        return "Nothing has been measured in full yet.\n"
    run = msgspec.json.decode(file.read_bytes(), type=Run)
    return f"![Requests answered in a second]({base}{file.with_suffix('.svg')})\n\n{render(run)}\n"


def routes() -> str:
    """Write the table of every method of every path."""
    rows = [
        (f"`{method} {route.path}`", operation.described.summary)
        for route in [*ROUTES, METRICS]
        for method, operation in cast("Resource", route.endpoint).operations.items()
    ]
    page = (f"`GET {PATH}`", "Show this API as a page, with `ITEMSVC_DOCS=on`.")
    return table(("call", "does"), *rows, page)


def problems() -> str:
    """Write the table of the problems, those of one meaning with a link to one section."""
    examples = [example["value"] for example in document(ROUTES)["components"]["examples"].values()]
    found = {value["code"]: value for value in reversed(examples) if "retryable" in value}  # the first of each
    rows = [
        (
            f"[`{code}`](#{section(code)})",
            str(value["status"]),
            value["title"],
            "yes" if value["retryable"] else "no",
        )
        for code, value in sorted(found.items(), key=lambda each: (each[1]["status"], each[0]))
    ]
    return table(("code", "status", "title", "retryable"), *rows)


def section(code: str) -> str:
    """Return the section of a code; one is of all resources, where the code names one."""
    for pattern, heading in SECTIONS.items():
        if pattern.fullmatch(code):
            return heading
    return code


def settings() -> str:
    """Write the table of settings."""
    rows = [
        (f"`{row.variable}`", f"`{row.default}`" if row.default else "none", row.expected, row.description)
        for row in Settings().described()
    ]
    return table(("variable", "default", "takes", "what for"), *rows)


def metrics() -> str:
    """Write the table of the metrics."""
    of_worker = worker_metrics([*ROUTES, METRICS], WorkerState())
    database = open_database("sqlite+aiosqlite://", Options(observer=of_worker.data_path))
    storage = Storage(database, Limits(), coalesce=True, batch_connections=3, idempotency_keys_max=1)
    of_worker.sampler(WorkerState(), storage)
    rows = [
        (f"`{name(family)}`", family.type, labels(family), family.documentation)
        for family in of_worker.exposition.collect()
    ]
    return table(("metric", "is a", "labels", "what"), *rows)


def labels(family: Any) -> str:
    """Return the labels of a metric."""
    return ", ".join(f"`{label}`" for label in family._labelnames)


def name(family: Metric) -> str:
    """Return the name of a metric as queries have it."""
    return f"{family.name}_total" if family.type == "counter" else family.name


def granted() -> str:
    """Write the privileges that the service needs."""
    statements = ";\n".join(grants("app"))
    return f"```sql\n{statements};\n```\n"


def commands() -> str:
    """Write the command line's own help."""
    output = StringIO()
    plain = {"COLUMNS": "80", "NO_COLOR": "1"}
    with patch.dict(os.environ, plain), redirect_stdout(output), suppress(SystemExit):
        main(["--help"])
    return f"```console\n$ .venv/bin/python -m service --help\n{output.getvalue()}```\n"


def faults() -> str:
    """Write the table of the faults' long forms, in their order."""
    file = RELIABILITY.with_suffix(".json")
    results = msgspec.json.decode(file.read_bytes()) if file.exists() else {}
    rows = [row for name in SCENARIOS if name in results for row in lines(name, results[name])]
    return table(("fault", "took", "what was counted"), *rows)


def lines(name: str, figures: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Write a fault's line, and one more for each kind of request that has figures of its own."""
    kinds = {kind: value for kind, value in figures.items() if isinstance(value, dict) and "offered_per_s" in value}
    yield name, f"{figures['took_s']} s", counted({one: value for one, value in figures.items() if one not in kinds})
    for kind, value in kinds.items():
        yield f"{name}: {kind}", "", counted(value)


UNITS = {"per_s": "in a second", "ms": "ms", "s": "s", "mib": "MiB"}
NOT_SHOWN = {"date", "took_s", "by kind", "memory_mib_max"}


def counted(figures: Mapping[str, Any]) -> str:
    """Write figures on one line, those of a group in brackets."""
    return ", ".join(figure(name, value) for name, value in figures.items() if name not in NOT_SHOWN and value != [])


def figure(name: str, value: Any) -> str:
    """Write a figure with its unit, which is the end of its name."""
    unit = next((unit for unit in UNITS if name.endswith(f"_{unit}")), "")
    words = name.removesuffix(f"_{unit}").replace("_", " ") if unit else name.replace("_", " ")
    if isinstance(value, dict):
        return f"{words} ({counted(value)}{f' {UNITS[unit]}' if unit else ''})"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"{words} ({'; '.join(map(counted, value))})"
    return f"{words} {value}{f' {UNITS[unit]}' if unit else ''}"


if __name__ == "__main__":
    for file, content in everything().items():
        file.write_text(content, encoding="utf-8")
