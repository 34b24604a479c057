"""Five times what can be done, by requests that come whether or not those before had their response.

The bottleneck is the database: a proxy makes every round trip long, so that a few connections can do some dozens of
batches in a second, which leaves processors to offer more, and to refuse it.
"""

import asyncio
import gc
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from tests.faults.durable import durable_server
from tests.faults.load import NUMBERS, ClientPool, Exchange, Request, closed_loop, counted, open_loop, quantile_ms
from tests.faults.proxy import HOST, Proxy
from tests.faults.report import Figures
from tests.faults.resources import RESOURCES, Body, Resource
from tests.support.postgres import PostgresServer
from tests.support.serving import ServiceProcess

OVERLOAD = 5
# What an operator would set: a request that would have to wait for longer than this many unloaded responses is refused.
WAIT_RESPONSES_MAX = 1.25
PROBES_PER_S = 20
ROWS = 1000  # so many that no two in flight change the same
WARM_UP_S = 0.5
# The round trips that a response takes, and how long each is made in each direction, in ms.
STATEMENT, TRANSACTION = (1, 20), (5, 12)


class Kind(NamedTuple):
    """Something that a few connections do for a resource, one request at a time."""

    resource: Resource
    make_for: Callable[[Resource, int], Request]
    connections: int
    round_trips: int
    latency_ms: int  # in each direction
    settings: Mapping[str, Any] = {}

    @property
    def wait_ms_max(self) -> int:
        """The longest wait."""
        return int(WAIT_RESPONSES_MAX * self.round_trips * 2 * self.latency_ms)

    def make(self, number: int) -> Request:
        """Return the request of a number."""
        return self.make_for(self.resource, number)

    def read(self, _number: int) -> Request:
        """Return a request to read a row of the resource."""
        return Request("GET", f"{self.resource}/1")


def _bodies(resource: Resource, count: int) -> list[Body]:
    """Return rows that nobody has created before; users have no password, as hashes would be most of the load."""
    return [resource.body(f"lamp-{number}", number) for number in islice(NUMBERS, count)]


def _create(resource: Resource, _number: int) -> Request:
    return Request("POST", resource.path, msgspec.json.encode(*_bodies(resource, 1)))


def _create_batch(resource: Resource, _number: int) -> Request:
    return Request("POST", resource.path, msgspec.json.encode(_bodies(resource, 2)))


def _update_batch(resource: Resource, number: int) -> Request:
    first = number % (ROWS // 2) * 2 + 1
    value = resource.body("lamp", number)[resource.updated]
    patches = [{"id": id, resource.updated: value} for id in (first, first + 1)]
    return Request("PATCH", resource.path, msgspec.json.encode(patches))


def _list(resource: Resource, number: int) -> Request:
    return Request("GET", f"{resource}?limit=20&{resource.found_by}=none{number}")


def kinds(resource: Resource) -> dict[str, Kind]:
    """Return what is asked for a resource, each under its name."""
    rows = resource.path.strip("/")
    # A transaction, on a connection of the pool, is what may refuse some of its rows, as their values are taken.
    creation = TRANSACTION if resource.collection.unique else STATEMENT
    alone = {"ITEMSVC_COALESCE": "off"}  # else ever more of them share a statement, and there is no peak
    return {
        f"batches of {rows} created": Kind(resource, _create_batch, 4, *creation, alone),
        f"batches of {rows} updated": Kind(resource, _update_batch, 4, *TRANSACTION),
        f"lists of {rows}": Kind(resource, _list, 2, *STATEMENT),
        f"{rows} created": Kind(resource, _create, 4, *STATEMENT, alone),
    }


KINDS = {name: kind for resource in RESOURCES for name, kind in kinds(resource).items()}


class Measured(NamedTuple):
    """All exchanges."""

    alone: list[Exchange]
    peak_per_s: float
    read_before: list[Exchange]
    offered: list[Exchange]
    read_during: list[Exchange]
    probes: list[Exchange]
    after: list[Exchange]
    offered_s: float

    @property
    def accepted(self) -> list[Exchange]:
        """What was done of what was offered."""
        return [one for one in self.offered if one.served]

    @property
    def shed(self) -> list[Exchange]:
        """What was refused."""
        return [one for one in self.offered if one.shed]


def overload(duration_s: float = 60.0) -> Figures:
    """Overload each kind of request for as long, and return which of the figures are not as they should be."""
    figures: dict[str, Any] = {}
    with durable_server() as server:
        for name, kind in KINDS.items():
            figures[name] = sum_up(kind, measure(server, kind, duration_s))
            print(name, figures[name], flush=True)  # noqa: T201 - progress
    missed = [f"{name}: {fault}" for name, one in figures.items() for fault in too_slow(one)]
    return {**figures, "missed": missed}


def measure(server: PostgresServer, kind: Kind, duration_s: float) -> Measured:
    """Measure what can be done, and offer five times as much: all is served or refused, and no probe fails."""
    wait_ms = str(kind.wait_ms_max)
    settings: dict[str, Any] = {"ITEMSVC_QUEUE_WAIT_MS_MAX": wait_ms, "ITEMSVC_POOL_WAIT_MS": wait_ms, **kind.settings}
    started = time.monotonic()
    with (
        Proxy(HOST, server.port) as proxy,
        ServiceProcess(proxy.url(server.url()), **settings) as service,
        _attentive(),
    ):
        measured = asyncio.run(_measure(service.url, kind, proxy, duration_s))
        assert service.log.count("requests refused") <= 2 + time.monotonic() - started
        assert '"level":"error"' not in service.log, service.log
    assert len(measured.accepted) + len(measured.shed) == len(measured.offered), counted(measured.offered)
    for exchanges in (measured.alone, measured.read_before, measured.read_during, measured.probes, measured.after):
        assert all(one.served for one in exchanges), counted(exchanges)
    return measured


@contextmanager
def _attentive() -> Iterator[None]:
    """Let the proxy and the clients, threads of this process, wait neither for each other nor for the collector."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        sys.setswitchinterval(interval_s)


async def _measure(url: str, kind: Kind, proxy: Proxy, duration_s: float) -> Measured:
    async with ClientPool(url) as pool:
        await _warm_up(pool, kind, proxy)
        short_s = duration_s / 4
        alone = await closed_loop(pool, kind.make, 1, short_s)
        read_before = await closed_loop(pool, kind.read, 1, short_s)
        # As many wait as are being served: no connection is ever without work.
        full = await closed_loop(pool, kind.make, 2 * kind.connections, short_s)
        peak_per_s = sum(one.served for one in full) / short_s
        offered, read_during, live, ready = await asyncio.gather(
            open_loop(pool, kind.make, OVERLOAD * peak_per_s, duration_s),
            closed_loop(pool, kind.read, 1, duration_s),
            open_loop(pool, lambda _: Request("GET", "/livez"), PROBES_PER_S, duration_s),
            open_loop(pool, lambda _: Request("GET", "/readyz"), PROBES_PER_S, duration_s),
        )
        after = await closed_loop(pool, kind.make, 1, short_s)
    return Measured(alone, peak_per_s, read_before, offered, read_during, [*live, *ready], after, duration_s)


async def _warm_up(pool: ClientPool, kind: Kind, proxy: Proxy) -> None:
    """Let every connection be there, and know its statements, and the service learn how long they take."""
    rows = msgspec.json.encode(_bodies(kind.resource, ROWS))
    created = await pool.ask(Request("POST", kind.resource.path, rows))
    assert created.served, created
    await closed_loop(pool, kind.make, 2 * kind.connections, WARM_UP_S)
    await closed_loop(pool, kind.read, 2 * kind.connections, WARM_UP_S)
    proxy.set(latency_s=kind.latency_ms / 1000)
    await closed_loop(pool, kind.make, 2 * kind.connections, WARM_UP_S)


def sum_up(kind: Kind, measured: Measured) -> dict[str, Any]:
    """Return the figures."""
    alone = [one.took_s for one in measured.alone]
    accepted = [one.took_s for one in measured.accepted]
    shed = [one.response_s for one in measured.shed]
    return {
        "queue_wait_ms_max and pool_wait_ms": kind.wait_ms_max,
        "unloaded_p50_ms": quantile_ms(alone, 0.5),
        "unloaded_p99_ms": quantile_ms(alone, 0.99),
        "peak_per_s": round(measured.peak_per_s, 1),
        "offered_per_s": round(len(measured.offered) / measured.offered_s, 1),
        "goodput_of_peak": round(len(accepted) / measured.offered_s / measured.peak_per_s, 3),
        "accepted_p50_ms": quantile_ms(accepted, 0.5),
        "accepted_p99_ms": quantile_ms(accepted, 0.99),
        "accepted_p99_of_unloaded": _ratio(accepted, alone),
        "shed": len(shed),
        "shed_p50_ms": quantile_ms(shed, 0.5),
        "shed_p99_ms": quantile_ms(shed, 0.99),
        "probes": len(measured.probes),
        "probes_p99_ms": quantile_ms((one.took_s for one in measured.probes), 0.99),
        "reads_p99_of_unloaded": _ratio(
            [one.took_s for one in measured.read_during], [one.took_s for one in measured.read_before]
        ),
        "after_p50_ms": quantile_ms((one.took_s for one in measured.after), 0.5),
    }


def too_slow(figures: Mapping[str, Any]) -> list[str]:
    """Return what is not as it was promised."""
    kept = {
        "goodput_of_peak": figures["goodput_of_peak"] >= 0.8,
        "accepted_p99_of_unloaded": figures["accepted_p99_of_unloaded"] <= 3,
        "shed_p99_ms": figures["shed_p99_ms"] < 10,
        "reads_p99_of_unloaded": figures["reads_p99_of_unloaded"] <= 3,
        "after_p50_ms": figures["after_p50_ms"] <= 1.5 * figures["unloaded_p50_ms"],
    }
    return [f"{name} is {figures[name]}" for name, is_kept in kept.items() if not is_kept]


def _ratio(loaded: list[float], unloaded: list[float]) -> float:
    return round(quantile_ms(loaded, 0.99) / quantile_ms(unloaded, 0.99), 2)
