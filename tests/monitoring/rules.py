"""The rules of Prometheus, and their unit tests, as they are in deploy/prometheus."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = sorted(PROMETHEUS.glob("rules/*.yml"))
UNIT_TESTS = sorted(PROMETHEUS.glob("tests/*.yml"))
METRIC = re.compile(r"\bitemsvc_[a-z_]+\b")

Rule = dict[str, Any]


def rules() -> list[Rule]:
    """Return every rule, in the order of the files."""
    return [rule for file in RULES for group in _load(file)["groups"] for rule in group["rules"]]


def alerts() -> dict[str, Rule]:
    """Return the alert rules by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recorded() -> set[str]:
    """Return the names of the series that rules record."""
    return {rule["record"] for rule in rules() if "record" in rule}


def expectations() -> Iterator[tuple[str, bool]]:
    """Return for each unit test and each alert that it looks at whether the alert fires there at any time."""
    for file in UNIT_TESTS:
        for test in _load(file)["tests"]:
            fires: dict[str, bool] = {}
            for check in test["alert_rule_test"]:
                fires[check["alertname"]] = fires.get(check["alertname"], False) or bool(check["exp_alerts"])
            yield from fires.items()


def metrics(expression: str) -> set[str]:
    """Return the service's metrics that an expression reads; what rules record is no metric of the service."""
    return set(METRIC.findall(re.sub(r"\w+:itemsvc_\w+:\w+", "", expression)))


def anchor(alert: str) -> str:
    """Return the anchor of an alert's section: MetricsAbsent has alert-metrics-absent."""
    return f"alert{re.sub('(?=[A-Z])', '-', alert).lower()}"


def _load(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))
