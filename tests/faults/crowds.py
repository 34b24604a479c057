"""Thousands of connections that say nothing, or half of something, beside clients that are served as if alone."""

import asyncio
import resource
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from statistics import median
from urllib.parse import urlsplit

import msgspec

from tests.faults.durable import durable_server
from tests.faults.load import ClientPool, Exchange, Request, closed_loop, counted, quantile_ms
from tests.faults.report import Figures
from tests.faults.resources import RESOURCES, Resource
from tests.support.serving import ServiceProcess

CLIENTS = 4
WAVES = 3
DESCRIPTORS = 12_000
POST = b"POST /items HTTP/1.1\r\nHost: items.test\r\nContent-Type: application/json\r\n"
HALVES = [
    b"GET /items/1 HT",
    b"GET /items/1 HTTP/1.1\r\nHost: items.test\r\nX-Half: ",
    POST + b"Content-Length: 25\r\n\r\n{",
    POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
]
# Their own time is not what is tried here.
SETTINGS = {"ITEMSVC_IDLE_TIMEOUT_MS": "600000", "ITEMSVC_BODY_TIMEOUT_MS": "600000"}
P99_RATIO_MAX = 2.0
MEMORY_MIB_PER_WAVE_MAX = 8.0


def beside_crowds(duration_s: float, idle: int, half_sent: int) -> Figures:
    """Serve normal requests without and with a crowd in turn. Raises AssertionError if one is not served."""
    with ExitStack() as opened:
        service = opened.enter_context(
            ServiceProcess(opened.enter_context(durable_server()).url(), workers=1, **SETTINGS)
        )
        return asyncio.run(_beside_crowds(service, duration_s / (2 * WAVES), idle, half_sent))


async def _beside_crowds(service: ServiceProcess, turn_s: float, idle: int, half_sent: int) -> Figures:
    [worker] = service.workers
    alone: list[list[Exchange]] = []
    beside: list[list[Exchange]] = []
    memory_mib: list[float] = []
    async with ClientPool(service.url) as pool:
        for resource in RESOURCES:
            await pool.ask(create(resource, 0))
        await load(pool, turn_s / 4)
        before_mib = worker.memory_info().rss / 2**20
        for _ in range(WAVES):
            alone.append(await load(pool, turn_s))
            with crowd(service.url, idle, half_sent):
                beside.append(await load(pool, turn_s))
                memory_mib.append(round(worker.memory_info().rss / 2**20, 1))
        after = await load(pool, turn_s / 4)
    wrong = [one for one in chain(*alone, *beside, after) if not one.served]
    assert not wrong, counted(wrong)
    ratio = median(p99_ms(with_it) / p99_ms(without) for with_it, without in zip(beside, alone, strict=True))
    return {
        "idle": idle,
        "half_sent": half_sent,
        "requests": {"alone": sum(map(len, alone)), "beside": sum(map(len, beside))},
        "p99_ms": {"alone": median(map(p99_ms, alone)), "beside": median(map(p99_ms, beside))},
        "p99_ratio": round(ratio, 2),
        "memory_mib": {"before": round(before_mib, 1), "in_each_wave": memory_mib},
    }


def run(duration_s: float) -> Figures:
    """Put the service beside a large crowd, and hold it to its promises."""
    figures = beside_crowds(duration_s, idle=2000, half_sent=500)
    waves_mib = figures["memory_mib"]["in_each_wave"]
    assert figures["p99_ratio"] <= P99_RATIO_MAX, figures
    assert waves_mib[-1] - waves_mib[0] <= MEMORY_MIB_PER_WAVE_MAX, figures
    return figures


async def load(pool: ClientPool, duration_s: float) -> list[Exchange]:
    """Send usual requests: for each resource in turn, to create, to read and to list."""
    return await closed_loop(pool, usual, CLIENTS, duration_s)


def usual(number: int) -> Request:
    """Return a usual request."""
    turn, which = divmod(number, len(RESOURCES))
    resource = RESOURCES[which]
    return [create(resource, number), Request("GET", f"{resource}/1"), Request("GET", f"{resource}?limit=10")][turn % 3]


def create(resource: Resource, number: int) -> Request:
    """Return a request that creates a row, another one for each number."""
    return Request("POST", resource.path, msgspec.json.encode(resource.body(f"lamp-{number}", number)))


def p99_ms(exchanges: Sequence[Exchange]) -> float:
    """Return the time within which 99 of 100 had their response."""
    return quantile_ms((one.took_s for one in exchanges), 0.99)


@contextmanager
def crowd(url: str, idle: int, half_sent: int) -> Iterator[None]:
    """Hold connections open, some with half a request."""
    allow_descriptors()
    address = urlsplit(url)
    with ExitStack() as opened:
        for number in range(idle + half_sent):
            one = opened.enter_context(socket.create_connection((address.hostname or "", address.port or 80), 10))
            if number < half_sent:
                one.sendall(HALVES[number % len(HALVES)])
        yield


def allow_descriptors() -> None:
    """Raise this process's limit of open files, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
