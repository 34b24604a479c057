"""Locust, as `make load` and the benchmark run it: the whole time is measured, and a run ends as it should."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from bench.drivers import locust
from bench.workloads import GET
from tests.support.serving import ROOT, ServiceProcess

MAKE = shutil.which("make") or "make"
SECONDS = 1
LATE = """
import gevent
from locust import events
from bench.drivers.questions import *

@events.test_start.add_listener
def be_late(**_):
    gevent.sleep(1.5 + {seconds})
"""


@pytest.fixture(params=["sqlite"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def service(database_url: str) -> Iterator[ServiceProcess]:
    with ServiceProcess(database_url) as service:
        yield service


def test_locust_measures_for_as_long_as_it_was_told_however_late_its_users_are(
    service: ServiceProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = tmp_path / "late.py"
    late.write_text(LATE.format(seconds=SECONDS))
    monkeypatch.setattr(locust, "LOCUSTFILE", late)
    with service.client() as client:
        assert client.post("/items", json={"name": "lamp", "price": 1}).status_code == 201
    port = make_url(service.url).port or 0
    load = locust.Locust().drive(GET, port, connections=2, seconds=SECONDS, rows=1)
    assert load.failures == 0
    assert load.seconds > 0.9 * SECONDS  # from the first response to the last


def test_a_load_ends_without_a_traceback_and_leaves_its_report(service: ServiceProcess, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    arguments = f"--users 2 --run-time 2s --html {report}"
    ended = subprocess.run(
        [MAKE, "load", f"HOST={service.url}", f"ARGS={arguments}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    assert "<html" in report.read_text()
