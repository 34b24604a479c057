"""A service under load, and a Prometheus that watches it."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import httpx

from tests.monitoring import load
from tests.support.prometheus import PrometheusServer, Series
from tests.support.serving import ServiceProcess
from tests.support.waiting import wait_until

LIMIT_S = 40.0
SCRAPED = "itemsvc_build_info"
# What the last request of a visit leaves, scraped at least twice and higher the second time, and the last of the rules
# that are evaluated.
SEEN = (
    'sum(increase(itemsvc_requests_total{route="/users/{id}", method="DELETE", status="204"}[10m])) > 1'
    " and on () sum(job:itemsvc_requests:rate1h) > 0"
)
# A range of some scrapes, as Grafana would take it.
RATE_INTERVAL = "10s"


class Watched(NamedTuple):
    """A service, its Prometheus, and when the load began."""

    service: ServiceProcess
    prometheus: PrometheusServer
    began: float

    @property
    def target(self) -> str:
        """The service as Prometheus calls it."""
        return target(self.service)

    @property
    def variables(self) -> Mapping[str, str]:
        """Return the dashboard's variables, with the values that Grafana would put in."""
        return {"job": "items", "instance": self.target, "__rate_interval": RATE_INTERVAL}

    def exposition(self) -> str:
        """Return the metrics as they are served."""
        return httpx.get(f"{self.service.url}/metrics").raise_for_status().text

    def history(self, expression: str, step_s: float = 1.0) -> list[Series]:
        """Return what an expression was since the load began."""
        return self.prometheus.query_range(expression, self.began, time.time(), step_s)

    def becomes(self, expression: str) -> None:
        """Wait until an expression returns something."""
        wait_until(lambda: self.prometheus.query(expression), LIMIT_S)

    def crowd(self, *habits: load.Habit, until: str) -> None:
        """Let clients do all of these, again and again, until an expression returns something."""
        deadline = time.monotonic() + LIMIT_S

        def is_over() -> bool:
            return bool(self.prometheus.query(until)) or time.monotonic() > deadline

        asyncio.run(load.crowd(self.service.url, is_over, *habits))
        assert self.prometheus.query(until), f"not within {LIMIT_S} s: {until}"


@contextmanager
def watched(database_url: str, **settings: str) -> Iterator[Watched]:
    """Serve with two workers, watched from before the first request."""
    with (
        ServiceProcess(database_url, workers=2, **settings) as service,
        PrometheusServer(target(service)) as prometheus,
    ):
        found = Watched(service, prometheus, time.time())
        found.becomes(SCRAPED)
        yield found


def target(service: ServiceProcess) -> str:
    """Return the address of a service, as Prometheus has it."""
    return service.url.removeprefix("http://")
