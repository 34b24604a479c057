"""A caller who asks for far more than the database can do, beside one who asks now and then.

The bottleneck is the database, as in `overload`: a proxy makes its round trips long, or on SQLite each write waits for
the disk alone, so that processors are left. SQLite's reads would need all of these. Without fair share a request would
wait behind all that the greedy caller has queued.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec

from tests.conftest import migrate
from tests.faults.crowds import allow_descriptors
from tests.faults.durable import durable_server
from tests.faults.load import ClientPool, Exchange, Request, closed_loop, counted, open_loop, quantile_ms
from tests.faults.proxy import HOST, Proxy
from tests.faults.report import Figures
from tests.faults.resources import ITEMS
from tests.support.issued import issue, store_user
from tests.support.serving import ServiceProcess
from tests.support.tokens import bearer

GREEDY_CLIENTS = 512
QUIET_PER_S = 50
LATENCY_S = 0.02  # of the proxy, in each direction
SHARE_MAX = (
    0.5  # of what the greedy caller waits, for 99 of 100 requests of the quiet one; without fair share all of it
)
BODY = msgspec.json.encode(ITEMS.body("lamp", 1))


class Served(NamedTuple):
    """A service, and the headers of its two callers."""

    url: str
    greedy: dict[str, str]
    quiet: dict[str, str]


def run(duration_s: float) -> Figures:
    """Let one caller be greedy on both databases, with reads and with writes, and hold the service to its promise."""
    figures: Figures = {}
    for name, (opened, kinds) in DATABASES.items():
        with opened() as served:
            figures[name] = {kind: beside(served, kind, duration_s / 9) for kind in kinds}
        for kind, one in figures[name].items():
            assert one["quiet_beside_p50_ms"] <= SHARE_MAX * one["greedy_p50_ms"], (name, kind, one)
    return figures


@contextmanager
def on_postgresql() -> Iterator[Served]:
    """Serve on a database that does 400 requests a second."""
    with (
        durable_server() as server,
        Proxy(HOST, server.port) as proxy,
        _served(server.url(), proxy.url(server.url()), batch_size_max=16) as served,
    ):
        proxy.set(latency_s=LATENCY_S)
        yield served


@contextmanager
def on_sqlite() -> Iterator[Served]:
    """Serve on a database that does one request at a time."""
    with TemporaryDirectory() as folder:
        url = f"sqlite+aiosqlite:///{Path(folder) / 'items.db'}"
        migrate(url)
        with _served(url, url, batch_size_max=1) as served:
            yield served


DATABASES = {"postgresql": (on_postgresql, ("reads", "writes")), "sqlite": (on_sqlite, ("writes",))}


@contextmanager
def _served(database_url: str, url: str, batch_size_max: int) -> Iterator[Served]:
    allow_descriptors()
    settings: dict[str, Any] = {"ITEMSVC_AUTH": "tokens", "ITEMSVC_BATCH_SIZE_MAX": str(batch_size_max)}
    settings["ITEMSVC_QUEUE_WAIT_MS_MAX"] = "60000"  # nobody is refused
    greedy, quiet = (asyncio.run(_token(database_url, name)) for name in ("greedy", "quiet"))
    with ServiceProcess(url, **settings) as service:
        yield Served(service.url, bearer(greedy), bearer(quiet))
        assert '"level":"error"' not in service.log, service.log


async def _token(database_url: str, name: str) -> str:
    return await issue(database_url, await store_user(database_url, name, "writer"))


def beside(served: Served, kind: str, duration_s: float, clients: int = GREEDY_CLIENTS) -> dict[str, Any]:
    """Measure a quiet caller alone, and beside a greedy one with so many clients. Raises AssertionError for a 5xx."""
    return asyncio.run(_beside(served, kind, duration_s, clients))


async def _beside(served: Served, kind: str, duration_s: float, clients: int) -> dict[str, Any]:
    def made(headers: dict[str, str]) -> Request:
        return (
            Request("GET", "/items/1", None, headers) if kind == "reads" else Request("POST", "/items", BODY, headers)
        )

    def different(number: int) -> Request:  # equal reads would share a place in the queue
        return made(served.greedy) if kind == "writes" else Request("GET", f"/items/{number + 2}", None, served.greedy)

    async with ClientPool(served.url) as pool:
        await pool.ask(Request("POST", "/items", BODY, served.quiet))
        await closed_loop(pool, lambda _: made(served.quiet), 4, 0.5)
        alone = await open_loop(pool, lambda _: made(served.quiet), QUIET_PER_S, duration_s)
        greedy = asyncio.create_task(closed_loop(pool, different, clients, 2 * duration_s))
        await asyncio.sleep(duration_s / 2)  # until all of them wait
        quiet = await open_loop(pool, lambda _: made(served.quiet), QUIET_PER_S, duration_s)
        asked = await greedy
    assert all(one.served for one in (*alone, *quiet)), counted([*alone, *quiet])
    return {
        "greedy_clients": clients,
        "greedy_per_s": round(len(asked) / (2 * duration_s)),
        "greedy_p50_ms": quantile_ms((one.took_s for one in asked), 0.5),
        **_quantiles("quiet_alone", alone),
        **_quantiles("quiet_beside", quiet),
    }


def _quantiles(name: str, exchanges: list[Exchange]) -> dict[str, float]:
    times = [one.took_s for one in exchanges]
    return {f"{name}_p50_ms": quantile_ms(times, 0.5), f"{name}_p99_ms": quantile_ms(times, 0.99)}
