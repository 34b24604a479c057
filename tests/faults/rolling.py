"""A rolling restart, and a rolling upgrade: two instances behind a balancer are replaced in turn, while locust asks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

import httpx

from db import revisions
from tests.faults.balancer import Balancer, Instance
from tests.faults.durable import durable_server
from tests.faults.report import Figures
from tests.faults.resources import RESOURCES
from tests.support.serving import ROOT, ServiceProcess
from tests.support.waiting import LIMIT_S, wait_until

CLIENTS = 8
SERVED_MIN = 50  # by an instance that is back, before the other leaves
DRAIN_DELAY_MS = "1000"
# Each release adds a column to the tables that are in use, and an index to the smaller one.
REVISION = '''"""Release {number}."""

import sqlalchemy as sa
from alembic import op

revision = "release_{number}"
down_revision = "{before}"
branch_labels = None
depends_on = None
additive = True


def upgrade() -> None:
    """Apply."""
    op.add_column("items", sa.Column("added_{number}", sa.BigInteger(), nullable=True))
    op.add_column("users", sa.Column("added_{number}", sa.BigInteger(), nullable=False, server_default="{number}"))
    op.create_index("ix_users_added_{number}", "users", ["added_{number}"])


def downgrade() -> None:
    """Undo."""
'''


def restart(times: int) -> Figures:
    """Replace each instance so many times. Raises AssertionError if a request failed."""
    with durable_server() as server, Service(server.url(), {}) as service:
        for _ in range(times):
            service.replace({})
        return {"restarts": 2 * times, **service.stop()}


def upgrade(times: int) -> Figures:
    """Migrate by additions, and replace each instance by one of the new release, so many times.

    Raises AssertionError if a request failed: the instances of the release before serve on meanwhile.
    """
    with durable_server() as server, TemporaryDirectory() as folder:
        release = Release.first(Path(folder))
        with Service(server.url(), release.environ) as service:
            for _ in range(times):
                release = release.following()
                release.migrate(server.url())
                service.replace(release.environ)
            return {"upgrades": times, **service.stop()}


class Service:
    """Two instances behind a balancer, and locust's clients, from entering the block until leaving it."""

    def __init__(self, database_url: str, environ: Mapping[str, Any]) -> None:
        self._start = partial(ServiceProcess, database_url, workers=2, ITEMSVC_DRAIN_DELAY_MS=DRAIN_DELAY_MS)
        self._environ = environ
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._processes = [opened.enter_context(self._start(**self._environ)) for _ in range(2)]
            ports = [httpx.URL(process.url).port or 0 for process in self._processes]
            self._balancer = opened.enter_context(Balancer(ports))
            wait_until(lambda: all(instance.is_ready for instance in self._balancer.instances))
            self._locust = opened.enter_context(Locust(self._balancer.url))
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def replace(self, environ: Mapping[str, Any]) -> None:
        """Stop each instance, and start another one in its place, one after the other."""
        for index, instance in enumerate(self._balancer.instances):
            wait_until(partial(has_served, instance, instance.served + SERVED_MIN))
            process = self._processes[index]
            process.send(signal.SIGTERM)
            assert process.wait() == 0, process.log
            self._processes[index] = self._opened.enter_context(self._start(PORT=str(instance.port), **environ))

    def stop(self) -> Figures:
        """Let locust's clients end, and return how many requests there were. Raises AssertionError if one failed."""
        statistics = self._locust.stop()
        assert not self._balancer.failures, self._balancer.failures
        requests = {
            resource.path: sum(kind["num_requests"] for kind in statistics if kind["name"].startswith(resource.path))
            for resource in RESOURCES
        }
        failed = sum(kind["num_failures"] for kind in statistics)
        assert all(requests.values()), requests
        assert not failed, statistics
        return {"requests": requests, "failed": failed}


class Release(NamedTuple):
    """A copy of the project, with the revisions of the releases after the first."""

    folder: Path
    number: int
    revision: str

    @classmethod
    def first(cls, folder: Path) -> Self:
        """Copy the project as it is into a folder of its own."""
        for name in ("db", "service"):
            shutil.copytree(ROOT / name, folder / "0" / name, ignore=shutil.ignore_patterns("__pycache__"))
        return cls(folder, 0, revisions.head())

    @property
    def environ(self) -> dict[str, str]:
        """Return the environment of an instance of this release."""
        return {"PYTHONPATH": str(self.folder / str(self.number))}

    def following(self) -> Self:
        """Return the next release: it has a revision more."""
        number = self.number + 1
        tree = self.folder / str(number)
        shutil.copytree(self.folder / str(self.number), tree)
        script = REVISION.format(number=number, before=self.revision)
        (tree / "db" / "migrations" / "versions" / f"release_{number}.py").write_text(script)
        return type(self)(self.folder, number, f"release_{number}")

    def migrate(self, database_url: str) -> None:
        """Run the migration of this release, as a job of its own."""
        environ = {**os.environ, **self.environ, "DATABASE_URL": database_url}
        command = [sys.executable, "-m", "service", "migrate"]
        done = subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True, check=True)
        assert done.stdout == f"The schema is at {self.revision}.\n", done


def has_served(instance: Instance, count: int) -> bool:
    """Whether an instance has answered so many requests."""
    return instance.served >= count


class Locust:
    """Locust's clients, half of them for each resource, at work from entering the block until `stop` or leaving it."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> Self:
        self._output = tempfile.TemporaryFile("w+")
        line = ["-f", str(ROOT / "bench" / "locustfile.py"), "Mixed", "MixedUsers", "--host", self._url]
        flags = ["--users", str(CLIENTS), "--spawn-rate", str(CLIENTS), "--headless", "--json", "--skip-log"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "locust", *line, *flags, "--exit-code-on-error", "0"],
            stdout=self._output,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(LIMIT_S)
        self._output.close()

    def stop(self) -> Sequence[dict[str, Any]]:
        """Let the clients end what they have begun, and return locust's statistics."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(LIMIT_S)
        self._output.seek(0)
        printed = self._output.read()
        # What stands before the list are complaints about the machine's limits.
        statistics: list[dict[str, Any]] = json.loads(printed[f"\n{printed}".index("\n[") :])
        return statistics
