"""Kill -9, at random times, of what serves: no acknowledged write is lost, and none with a key happens twice."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from tests.conftest import migrate
from tests.faults.durable import durable_server
from tests.faults.report import Figures
from tests.faults.trial import NO_RESPONSES, RESPONSES, Load, Survivor, durable_database

WORKERS = 2
WRITES = 20  # acknowledged before each kill: there is something to lose
DELAYS_S = 0.2, 0.8  # from then on


def kill_worker(times: int, seed: int = 0, database_url: str | None = None) -> Figures:
    """Kill one worker of two; Granian starts another, or the service is started again."""
    with ExitStack() as opened:
        url = opened.enter_context(durable_database(database_url))
        survivor = opened.enter_context(Survivor(url, workers=WORKERS))
        random = Random(seed)  # noqa: S311 - no secret: it can be repeated
        figures = kill(survivor, url, lambda: survivor.kill_worker(random.randrange(WORKERS)), times, seed)
        return {**figures, "service_restarts": survivor.starts - 1}


def kill_service(times: int, seed: int = 0, database_url: str | None = None) -> Figures:
    """Kill all processes of a service on PostgreSQL, and start it again."""
    with ExitStack() as opened:
        url = opened.enter_context(durable_database(database_url))
        survivor = opened.enter_context(Survivor(url, workers=WORKERS))
        return kill(survivor, url, survivor.start, times, seed)


def kill_postgresql(times: int, seed: int = 0) -> Figures:
    """Kill all processes of PostgreSQL, and start it again; the service stays, and every request has a response."""
    with ExitStack() as opened:
        server = opened.enter_context(durable_server())
        survivor = opened.enter_context(Survivor(server.url(), workers=WORKERS))

        def strike() -> None:
            server.kill()
            server.start()

        return kill(survivor, server.url(), strike, times, seed, responses=RESPONSES)


def kill_sqlite(times: int, seed: int = 0) -> Figures:
    """Kill a service on SQLite, and start it again; its file is whole in the end."""
    with ExitStack() as opened:
        url = f"sqlite+aiosqlite:///{Path(opened.enter_context(TemporaryDirectory())) / 'items.db'}"
        migrate(url)
        survivor = opened.enter_context(Survivor(url))
        return kill(survivor, url, survivor.start, times, seed)


def kill(  # noqa: PLR0913 - a trial is these
    survivor: Survivor,
    database_url: str,
    strike: Callable[[], None],
    times: int,
    seed: int,
    *,
    responses: tuple[str, ...] = (*RESPONSES, *NO_RESPONSES),
) -> Figures:
    """Strike at random times of a mixed load, each time after everything is up again."""
    random = Random(seed)  # noqa: S311 - no secret: it can be repeated
    with Load(survivor.service.url, seed=seed) as load:
        for _ in range(times):
            load.wait_for(WRITES)
            time.sleep(random.uniform(*DELAYS_S))  # no event tells when to strike
            strike()
        load.wait_for(WRITES)
        figures, _ = load.end(database_url, responses=responses)
    return {"kills": times, **figures}
