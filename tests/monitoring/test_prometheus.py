"""A real Prometheus that scrapes a real service has what the rules and the runbook ask for."""

import asyncio
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.documents import OPERATIONS
from tests.monitoring import load
from tests.monitoring.dashboard import DASHBOARDS, put_in, queries, read
from tests.monitoring.rules import alerts, metrics, rules
from tests.monitoring.watched import Watched, watched
from tests.support.prometheus import BINARY, PROMTOOL
from tests.support.responses import execute
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(not BINARY, reason="Prometheus is not installed; on Debian, apt-get install prometheus")

QUERIES = re.compile(r"```promql\n(.*?)```", re.DOTALL)
COMPARED = re.compile(r" (==|>=|>|<) ")
# What a service that runs well, and not for long, has no series for.
NOTHING = {
    "MetricsAbsent": "there are metrics",
    "RetentionStalled": "it asks for writes of half an hour ago",
}


def runbook() -> list[str]:
    """Return the queries of the page on operations; a line that is indented goes on with the one before."""
    blocks = QUERIES.findall(OPERATIONS.read_text(encoding="utf-8"))
    return list(dict.fromkeys(query for block in blocks for query in re.split(r"\n(?! )", block.strip())))


def served(exposition: str) -> set[str]:
    """Return the names in an exposition; some counters have no series before they count, but their type."""
    return set(re.findall(r"^(?:# TYPE )?(itemsvc_\w+)[{ ]", exposition, re.MULTILINE))


def test_promtool_finds_nothing_wrong_with_the_metrics(loaded: Watched) -> None:
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=loaded.exposition(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_metric_that_is_asked_for_is_served(loaded: Watched) -> None:
    dashboards = [query.expression for file in DASHBOARDS for query in queries(read(file))]
    asked = set().union(*map(metrics, [*(rule["expr"] for rule in rules()), *dashboards, *runbook()]))
    assert len(asked) > 20
    assert asked - served(loaded.exposition()) == set()


def test_prometheus_evaluates_every_rule(loaded: Watched) -> None:
    groups = loaded.prometheus.get("rules")["groups"]
    states = {rule["name"]: (rule["health"], rule.get("lastError", "")) for group in groups for rule in group["rules"]}
    assert states == {rule.get("alert") or rule["record"]: ("ok", "") for rule in rules()}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_has_its_data(loaded: Watched, rule: dict[str, str]) -> None:
    # With bool, a comparison is 0 or 1, where it would leave out what is not so.
    compared = COMPARED.sub(r" \1 bool ", rule["expr"])
    if rule.get("alert") in NOTHING:
        assert loaded.prometheus.query(compared) == []
    else:
        loaded.becomes(compared)


@pytest.mark.parametrize("query", runbook())
def test_a_query_of_the_runbook_can_be_asked(loaded: Watched, query: str) -> None:
    loaded.prometheus.query(query)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_what_happens_to_a_service_is_seen(database_url: str) -> None:
    with watched(database_url, ITEMSVC_REQUESTS_MAX="2") as troubled:
        burning, shed = (alerts()[name]["expr"] for name in ("ErrorBudgetBurnsFast", "RequestsShed"))
        troubled.crowd(load.look_up, until=f"({burning}) and on () ({shed})")
        with missing_table(database_url):
            troubled.crowd(load.look_up, until=put_in(expression("Batches repeated"), troubled.variables))
        victim, _ = troubled.service.workers
        victim.kill()
        troubled.becomes(alerts()["WorkerDied"]["expr"])
        wait_until(lambda: len(troubled.service.workers) == 2)
        troubled.service.kill()
        troubled.becomes(alerts()["InstanceNotScraped"]["expr"])
        troubled.becomes(alerts()["MetricsAbsent"]["expr"])


@contextmanager
def missing_table(database_url: str) -> Iterator[None]:
    """Let no statement on items succeed, so that batches are bisected."""
    asyncio.run(execute(database_url, "ALTER TABLE items RENAME TO items_kept"))
    yield
    asyncio.run(execute(database_url, "ALTER TABLE items_kept RENAME TO items"))


def expression(panel: str) -> str:
    """Return the query of a panel that has one."""
    [found] = [query.expression for query in queries(read()) if query.panel == panel]
    return found
