"""Every query of the dashboard has data of a real service, and Grafana can show it."""

from collections import Counter
from itertools import combinations
from typing import Any

import pytest

from tests.monitoring.dashboard import Query, panels, put_in, queries, read
from tests.monitoring.watched import Watched
from tests.support.prometheus import BINARY

needs_prometheus = pytest.mark.skipif(
    not BINARY, reason="Prometheus is not installed; on Debian, apt-get install prometheus"
)

DASHBOARD = read()
PANELS_MAX = 25
COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# What a service that runs well has no series for.
NOTHING = {
    "Alerts": "none has fired for long enough",
    "Batches repeated": "none was; test_what_happens_to_a_service_is_seen has some that were",
}


@needs_prometheus
@pytest.mark.parametrize("query", list(queries(DASHBOARD)), ids=lambda query: query.panel + query.letter)
def test_a_query_has_data_of_a_service_under_load(loaded: Watched, query: Query) -> None:
    series = loaded.history(put_in(query.expression, loaded.variables))
    assert bool(series) == (query.panel not in NOTHING)


@needs_prometheus
@pytest.mark.parametrize("variable", ["job", "instance"])
def test_a_variable_has_its_values(loaded: Watched, variable: str) -> None:
    [found] = [each for each in DASHBOARD["templating"]["list"] if each["name"] == variable]
    matched, _, label = found["query"]["query"].removeprefix("label_values(").removesuffix(")").rpartition(", ")
    values = loaded.prometheus.get(f"label/{label}/values", **{"match[]": put_in(matched, loaded.variables)})
    assert values == [loaded.variables[variable]]


def test_panels_are_few_and_distinct() -> None:
    assert len(panels(DASHBOARD)) <= PANELS_MAX
    assert max(Counter(panel["title"] for panel in panels(DASHBOARD)).values()) == 1
    assert max(Counter(panel["id"] for panel in DASHBOARD["panels"]).values()) == 1


@pytest.mark.parametrize("panel", panels(DASHBOARD), ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_and_of_which_prometheus(panel: Any) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert [panel["datasource"], *(target["datasource"] for target in panel["targets"])] == [
        DATASOURCE for _ in range(1 + len(panel["targets"]))
    ]


def test_panels_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] + place["w"] <= COLUMNS for place in places)
    assert [pair for pair in combinations(places, 2) if overlap(*pair)] == []


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    """Return whether two places have a cell in common."""
    return all(
        one[start] < other[start] + other[size] and other[start] < one[start] + one[size]
        for start, size in (("x", "w"), ("y", "h"))
    )
