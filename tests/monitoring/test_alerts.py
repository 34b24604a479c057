"""Every alert fires when it should, does not when it should not, and tells the person on call what to do."""

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.documents import OPERATIONS
from tests.monitoring.rules import RULES, UNIT_TESTS, alerts, anchor, expectations, rules

PROMTOOL = shutil.which("promtool") or ""
ROW = re.compile(r"^\| \[(\w+)\]\(#([\w-]+)\) \| (\w+) \|", re.MULTILINE)
FEWEST_WORDS = 40

needs_promtool = pytest.mark.skipif(not PROMTOOL, reason="promtool is not installed")


@needs_promtool
@pytest.mark.parametrize("file", RULES, ids=lambda file: file.stem)
def test_promtool_finds_nothing_wrong_with_the_rules(file: Path) -> None:
    subprocess.run([PROMTOOL, "check", "rules", "--lint-fatal", file], check=True, capture_output=True)


@needs_promtool
@pytest.mark.parametrize("file", UNIT_TESTS, ids=lambda file: file.stem)
def test_alerts_fire_when_they_should(file: Path) -> None:
    done = subprocess.run([PROMTOOL, "test", "rules", file], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    checked = Counter(set(expectations()))
    assert {name for name, _ in checked} == alerts().keys()
    assert [name for name in alerts() if not checked[name, True] or not checked[name, False]] == []


def test_names_are_unique() -> None:
    names = Counter(rule.get("alert") or rule["record"] for rule in rules())
    assert max(names.values()) == 1


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_how_urgent_it_is_what_is_wrong_and_where_to_read_on(name: str) -> None:
    alert = alerts()[name]
    assert alert.keys() == {"alert", "expr", "for", "labels", "annotations"}
    assert alert["labels"]["service"] == "itemsvc"
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook"}
    assert alert["annotations"]["runbook"] == f"docs/operations.md#{anchor(name)}"


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    assert {name for name in sections() if name.startswith("alert-")} == set(map(anchor, alerts()))


def test_the_table_of_alerts_says_how_urgent_they_are() -> None:
    listed = ROW.findall(OPERATIONS.read_text(encoding="utf-8"))
    expected = {(name, anchor(name), alert["labels"]["severity"]) for name, alert in alerts().items()}
    assert Counter(listed) == Counter(expected)


@pytest.mark.parametrize("name", alerts())
def test_a_section_says_what_an_alert_means_what_to_look_at_and_what_to_do(name: str) -> None:
    section = sections()[anchor(name)]
    assert len(section.split()) > FEWEST_WORDS
    for part in ("Means", "Look at", "Do"):
        assert f"**{part}**" in section


def sections() -> dict[str, str]:
    """Return the sections of alerts by their anchors."""
    page = OPERATIONS.read_text(encoding="utf-8")
    _, *parts = re.split(r"^#{2,3} ", page, flags=re.MULTILINE)
    split = [part.partition("\n") for part in parts]
    return {head.lower().replace(":", "").replace(" ", "-"): body for head, _, body in split}
