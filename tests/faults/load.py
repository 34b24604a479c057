"""Load that is measured: by clients that wait for their responses, or by requests that are sent when they are due."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count
from random import Random
from typing import NamedTuple, Self

import msgspec

from tests.faults.client import Client, NotSentError, UnansweredError

CONNECTIONS = 64


class Request(NamedTuple):
    """A request, as a client takes it."""

    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = {}  # noqa: RUF012 - it is never changed


class Exchange(NamedTuple):
    """The response to a request, and how long it took; status 0 is none."""

    status: int
    code: str
    retry_after: bool
    took_s: float  # since it was due
    response_s: float  # since it was sent, which may be a little later

    @property
    def served(self) -> bool:
        """Whether it was done."""
        return 200 <= self.status < 300

    @property
    def shed(self) -> bool:
        """Whether it was refused because too much was waiting, as it must be."""
        return (self.status, self.code, self.retry_after) == (503, "overloaded", True)


class ClientPool:
    """Connections that are kept, as many as are needed so that no request waits for one."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._clients: list[Client] = []
        self._free: list[Client] = []

    async def __aenter__(self) -> Self:
        await asyncio.gather(*(self.ask(Request("GET", "/livez")) for _ in range(CONNECTIONS)))
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()

    async def ask(self, request: Request, due: float | None = None) -> Exchange:
        """Send a request that is due now, or was at a time of the loop's clock."""
        sent = _now()
        client = self._free.pop() if self._free else self._new()
        try:
            response = await client.ask(*request)
        except (NotSentError, UnansweredError) as error:
            return Exchange(0, repr(error), False, *_since(due, sent))
        finally:
            self._free.append(client)
        times = _since(due, sent)
        code = "" if response.status < 400 else msgspec.json.decode(response.body)["code"]
        return Exchange(response.status, code, "retry-after" in response.headers, *times)

    def _new(self) -> Client:
        client = Client([self._url])
        self._clients.append(client)
        return client


async def closed_loop(
    pool: ClientPool, make: Callable[[int], Request], clients: int, duration_s: float
) -> list[Exchange]:
    """Let clients ask again and again, each as soon as it has its response."""
    exchanges: list[Exchange] = []
    end = _now() + duration_s

    async def repeat() -> None:
        while _now() < end:
            exchanges.append(await pool.ask(make(next(NUMBERS))))

    await asyncio.gather(*(repeat() for _ in range(clients)))
    return exchanges


async def open_loop(
    pool: ClientPool, make: Callable[[int], Request], rate_per_s: float, duration_s: float
) -> list[Exchange]:
    """Send each request when it is due, whatever became of those before it; they arrive by chance, as from many."""
    random = Random(0)  # noqa: S311 - no secret: it can be repeated
    due = _now()
    end = due + duration_s
    asked: list[asyncio.Task[Exchange]] = []
    while (due := due + random.expovariate(rate_per_s)) < end:
        await asyncio.sleep(max(0.0, due - _now()))
        asked.append(asyncio.create_task(pool.ask(make(next(NUMBERS)), due)))
    return list(await asyncio.gather(*asked))


NUMBERS = count()


def quantile_ms(seconds: Iterable[float], share: float) -> float:
    """Return the time within which a share of requests had its response."""
    ordered = sorted(seconds) or [0.0]
    return round(ordered[int(len(ordered) * share)] * 1000, 1)


def counted(exchanges: Iterable[Exchange]) -> dict[str, int]:
    """Count responses by status and code."""
    return dict(Counter(f"{one.status} {one.code}".strip() for one in exchanges))


def _since(due: float | None, sent: float) -> tuple[float, float]:
    now = _now()
    return now - (sent if due is None else due), now - sent


def _now() -> float:
    return asyncio.get_running_loop().time()
