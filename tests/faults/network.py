"""A network between the service and PostgreSQL that is silent, slow or torn: every request has a response in time."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import cycle
from random import Random

from sqlalchemy import make_url

from tests.faults.proxy import Proxy
from tests.faults.report import Figures, Report
from tests.faults.trial import Load, Survivor, check_answered, durable_database
from tests.faults.workload import USUAL
from tests.support.postgres import HOST

WORKERS = 2
LIMITS = {"ITEMSVC_REQUEST_TIMEOUT_MS": "3000", "ITEMSVC_STATEMENT_TIMEOUT_MS": "2000"}
DEADLINES_S = 3.0, 1.0  # the service's, and that of the requests that ask for one
PATIENT, IMPATIENT = USUAL, USUAL._replace(headers={"x-request-timeout": "1"})
ROUND_TRIP_S = 0.5
RESET_SHARE = 0.05
SILENCES_S = 0.2, 5.0  # shorter and longer than any deadline
WRITES = 50  # acknowledged before anything happens


def black_hole(duration_s: float, seed: int = 0, database_url: str | None = None) -> Figures:
    """Pass nothing on."""
    return endure(lambda proxy: hold(proxy, duration_s, black_hole=True), seed, database_url)


def black_holes(duration_s: float, seed: int = 0, database_url: str | None = None) -> Figures:
    """Pass nothing on, now and then; afterwards connections are lost, or what was held back arrives after all."""
    random = Random(seed)  # noqa: S311 - no secret: it can be repeated

    def toggle(proxy: Proxy) -> None:
        end = time.monotonic() + duration_s
        changes = cycle((silent, resuming) for resuming in (True, False) for silent in (True, False))
        while (left_s := end - time.monotonic()) > 0:
            silent, resuming = next(changes)
            hold(proxy, min(left_s, random.uniform(*SILENCES_S)), black_hole=silent, resuming=resuming)

    return endure(toggle, seed, database_url)


def latency(duration_s: float, seed: int = 0, database_url: str | None = None) -> Figures:
    """Let every round trip take half a second; requests that can wait for so long are served."""
    return endure(lambda proxy: hold(proxy, duration_s, latency_s=ROUND_TRIP_S / 2), seed, database_url, serves=True)


def resets(duration_s: float, seed: int = 0, database_url: str | None = None) -> Figures:
    """Reset a connection with every twentieth part that is sent on any."""
    return endure(lambda proxy: hold(proxy, duration_s, reset_share=RESET_SHARE), seed, database_url, serves=True)


def hold(proxy: Proxy, duration_s: float, **rules: bool | float) -> None:
    """Let rules hold for so long."""
    proxy.set(**rules)
    time.sleep(duration_s)


def endure(condition: Callable[[Proxy], None], seed: int, database_url: str | None, *, serves: bool = False) -> Figures:
    """Let a condition hold under a mixed load, and end; with `serves`, writes must succeed all the while."""
    with ExitStack() as opened:
        url = opened.enter_context(durable_database(database_url))
        proxy = opened.enter_context(Proxy(HOST, make_url(url).port or 0, seed=seed))
        survivor = opened.enter_context(Survivor(proxy.url(url), workers=WORKERS, **LIMITS))
        load = opened.enter_context(Load(survivor.service.url, PATIENT, IMPATIENT, seed=seed))
        load.wait_for(WRITES)
        before, began = load.acknowledged, time.monotonic()
        condition(proxy)
        acknowledged, lasted_s = load.acknowledged, time.monotonic() - began
        proxy.clear()
        recovery_ms = round(load.recovery_s() * 1000)
        figures, reports = load.end(url)
    for report, deadline_s in zip(reports, DEADLINES_S, strict=True):
        check_answered(report, deadline_s)
    assert acknowledged > before or not serves
    meanwhile = {"duration_s": round(lasted_s, 1), "acknowledged_meanwhile": acknowledged - before}
    return {
        **meanwhile,
        "recovery_ms": recovery_ms,
        "requests": sum(map(requests, reports)),
        **longest(reports),
        **figures,
    }


def requests(report: Report) -> int:
    """Count the requests that were sent."""
    return sum(report.responses.values())


def longest(reports: list[Report]) -> Figures:
    """Return the longest wait for each deadline."""
    waits = zip(DEADLINES_S, reports, strict=True)
    return {f"longest_of_{deadline_s:g}_s_ms": round(report.unanswered_max_s * 1000) for deadline_s, report in waits}
