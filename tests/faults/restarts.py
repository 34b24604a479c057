"""PostgreSQL is stopped at once and started again under load: the service is back with it, as it was before."""

import time
from contextlib import ExitStack
from random import Random
from statistics import median

from tests.faults.durable import durable_server
from tests.faults.report import Figures
from tests.faults.trial import RESPONSES, Load, Survivor, check_answered, fill_pools, sessions
from tests.support.waiting import wait_until

WORKERS = 2
REQUEST_TIMEOUT_MS = 10_000
DELAYS_S = 0.2, 0.8


def restart_postgresql(times: int, seed: int = 0) -> Figures:
    """Stop and start it so many times, at random times."""
    random = Random(seed)  # noqa: S311 - no secret: it can be repeated
    recoveries: list[float] = []
    with ExitStack() as opened:
        server = opened.enter_context(durable_server())
        database_url = server.url()
        limits = {"ITEMSVC_REQUEST_TIMEOUT_MS": str(REQUEST_TIMEOUT_MS)}
        url = opened.enter_context(Survivor(database_url, workers=WORKERS, **limits)).service.url
        load = opened.enter_context(Load(url, seed=seed))
        fill_pools(url)
        before = sessions(database_url)
        for _ in range(times):
            time.sleep(random.uniform(*DELAYS_S))  # no event tells when to strike
            server.stop("immediate")
            server.start()
            recoveries.append(load.recovery_s())
            await_connections(url, database_url, before)
        figures, [report] = load.end(database_url, responses=RESPONSES)
    check_answered(report, REQUEST_TIMEOUT_MS / 1000)
    recovery_ms = {"median": round(median(recoveries) * 1000), "max": round(max(recoveries) * 1000)}
    return {"restarts": times, "recovery_ms": recovery_ms, "connections": before, **figures}


def await_connections(url: str, database_url: str, count: int) -> None:
    """Wait until the service has as many connections as before, once it has all that it may have."""
    found = []

    def are_as_before() -> bool:
        fill_pools(url)
        found.append(sessions(database_url))
        return found[-1] == count

    try:
        wait_until(are_as_before)
    except TimeoutError:
        raise AssertionError(f"there are {found[-1]} connections, and were {count}") from None
