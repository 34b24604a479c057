"""The dashboard, read as Grafana reads it: panels with their queries, and variables put in."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.monitoring.rules import ROOT

FILE = ROOT / "deploy" / "grafana" / "dashboards" / "itemsvc.json"
DASHBOARDS = sorted(FILE.parent.glob("*.json"))


class Query(NamedTuple):
    """A query of a panel, and how its series are called."""

    panel: str
    letter: str
    expression: str
    legend: str


def read(file: Path = FILE) -> Any:
    """Return a dashboard."""
    return json.loads(file.read_text(encoding="utf-8"))


def panels(dashboard: Any) -> list[Any]:
    """Return the panels, without the rows above them."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries(dashboard: Any) -> Iterator[Query]:
    """Return the queries of all panels, and those of the annotations."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield Query(panel["title"], target["refId"], target["expr"], target["legendFormat"])
    for annotation in dashboard["annotations"]["list"]:
        yield Query(annotation["name"], "", annotation["expr"], annotation["titleFormat"])


def put_in(expression: str, values: Mapping[str, str]) -> str:
    """Return an expression with the values of the variables, those with the longest names first."""
    for name in sorted(values, key=len, reverse=True):
        expression = expression.replace(f"${name}", values[name])
    return expression
