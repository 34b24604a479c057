"""Locust, as `make load` and the benchmark run it: the whole time is measured, and a run ends as it should."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import make_url

from bench.client import Target
from bench.database import issue_token, migrate
from bench.drivers import locust, wrk
from bench.drivers.driver import Crowd, Driver
from bench.workloads import GET, MIXED, PAGE, POST, PUT
from tests.support.ports import free_port
from tests.support.serving import ROOT, ServiceProcess

MAKE = shutil.which("make") or "make"
SECONDS = 1
CROWD = Crowd(connections=2, seconds=SECONDS, rows=1)
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


def load(service: ServiceProcess, report: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    port = free_port()  # of locust's own processes: one load at a time has the default
    arguments = f"--users 2 --run-time 2s --html {report} --master-port {port} --master-bind-port {port}"
    return subprocess.run(
        [MAKE, "load", f"HOST={service.url}", f"ARGS={arguments}"],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_locust_measures_for_as_long_as_it_was_told_however_late_its_users_are(
    service: ServiceProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = tmp_path / "late.py"
    late.write_text(LATE.format(seconds=SECONDS))
    monkeypatch.setattr(locust, "LOCUSTFILE", late)
    with service.client() as client:
        assert client.post("/items", json={"name": "lamp", "price": 1}).status_code == 201
    target = Target(make_url(service.url).port or 0)
    load = locust.Locust().drive(GET, target, CROWD)
    assert load.failures == 0
    assert load.seconds > 0.9 * SECONDS  # from the first response to the last


def drivers() -> list[Driver]:
    program = shutil.which("wrk")
    return [locust.Locust(), *([wrk.Wrk(program)] if program else [])]


def test_a_load_for_a_service_with_authentication_brings_its_token(database_url: str, tmp_path: Path) -> None:
    migrate(database_url)
    with ServiceProcess(database_url, ITEMSVC_AUTH="tokens") as service:
        ended = load(service, tmp_path / "report.html", ITEMS_TOKEN=issue_token(database_url))
        assert ended.returncode == 0, ended.stderr
        refused = load(service, tmp_path / "refused.html")
        assert refused.returncode
        assert "status 401" in refused.stdout + refused.stderr
        target = Target(make_url(service.url).port or 0, {"Authorization": f"Bearer {issue_token(database_url)}"})
        paths = tmp_path / "paths.txt"
        paths.write_text("/items?limit=100\n/items?limit=100&order=price")
        with_paths = [replace(workload, path=str(paths)) for workload in (PAGE, MIXED)]
        for driver in drivers():
            for workload in (POST, GET, PUT, *with_paths):
                driven = driver.drive(workload, target, CROWD)
                assert (driven.failures, driven.breaks) == (0, 0)
                assert driven.responses


def test_a_load_ends_without_a_traceback_and_leaves_its_report(service: ServiceProcess, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    ended = load(service, report)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    assert "<html" in report.read_text()
