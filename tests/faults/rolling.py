"""A rolling restart: two instances behind a balancer, one after the other replaced, while locust asks."""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Self

import httpx

from tests.faults.balancer import Balancer, Instance
from tests.faults.durable import durable_server
from tests.faults.resources import RESOURCES
from tests.support.serving import ROOT, ServiceProcess
from tests.support.waiting import LIMIT_S, wait_until

CLIENTS = 8
SERVED_MIN = 50  # by an instance that is back, before the other leaves
DRAIN_DELAY_MS = "1000"


def restart(times: int) -> dict[str, Any]:
    """Replace each instance so many times. Raises AssertionError if a request failed."""
    with ExitStack() as opened:
        server = opened.enter_context(durable_server())
        start = partial(ServiceProcess, server.url(), workers=2, ITEMSVC_DRAIN_DELAY_MS=DRAIN_DELAY_MS)
        services = [opened.enter_context(start()) for _ in range(2)]
        balancer = opened.enter_context(Balancer([httpx.URL(service.url).port or 0 for service in services]))
        wait_until(lambda: all(instance.is_ready for instance in balancer.instances))
        locust = opened.enter_context(Locust(balancer.url))
        for _ in range(times):
            for index, instance in enumerate(balancer.instances):
                wait_until(partial(has_served, instance, instance.served + SERVED_MIN))
                services[index].send(signal.SIGTERM)
                assert services[index].wait() == 0, services[index].log
                services[index] = opened.enter_context(start(PORT=str(instance.port)))
        statistics = locust.stop()
        assert not balancer.failures, balancer.failures
    requests = {
        resource.path: sum(kind["num_requests"] for kind in statistics if kind["name"].startswith(resource.path))
        for resource in RESOURCES
    }
    failed = sum(kind["num_failures"] for kind in statistics)
    assert all(requests.values()), requests
    assert not failed, statistics
    return {"restarts": 2 * times, "requests": requests, "failed": failed}


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
