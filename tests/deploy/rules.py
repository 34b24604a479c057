"""The alert rules as a PrometheusRule, into which kustomize puts no file: `python -m tests.deploy.rules` writes it."""

from typing import Any

import yaml

from tests.deploy.dockerfile import ROOT
from tests.deploy.kubernetes import KUBERNETES, OPERATOR

RULES = ROOT / "deploy" / "prometheus" / "rules"
FILE = KUBERNETES / "components" / "monitoring" / "rules.yaml"
HEAD = "# Written from deploy/prometheus/rules, by `python -m tests.deploy.rules`.\n"


def groups() -> list[dict[str, Any]]:
    """Return the groups of all files, in the order of their names."""
    files = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted(RULES.glob("*.yml"))]
    return [group for file in files for group in file["groups"]]


def written() -> str:
    """Return the manifest as it has to be now."""
    rule = {
        "apiVersion": OPERATOR,
        "kind": "PrometheusRule",
        "metadata": {"name": "items"},
        "spec": {"groups": groups()},
    }
    return HEAD + yaml.safe_dump(rule, sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    FILE.write_text(written(), encoding="utf-8")
