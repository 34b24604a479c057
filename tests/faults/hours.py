"""A modest mixed load for a long time: nothing grows."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from statistics import linear_regression
from typing import NamedTuple

import psutil

from tests.faults.durable import durable_server
from tests.faults.report import Figures
from tests.faults.trial import RESPONSES, Load, Survivor, fill_pools
from tests.faults.workload import USUAL

WORKERS = 2
# Some 100 requests in a second. A writer owns at most OWN_MAX rows, and then only deletes: the tables stay small.
WRITERS = 12
STEADY = USUAL._replace(pause_s=0.1)
# Keys are to come and go while it lasts.
SETTINGS = {"ITEMSVC_IDEMPOTENCY_KEY_LIFETIME_S": "60"}
WARM_UP_SHARE = 0.1
SAMPLES = 200
POINTS = "start", "warm", "end"
SAMPLE_S_MIN = 0.25

SLOPE_MIB_MAX = 1.0  # in ten minutes
SLOPE_S_MIN = 600.0  # a shorter time shows no slope
GROWTH_MIB_MAX = 8.0
DESCRIPTORS_MAX = 2  # more than before: what is open for a short time


class Sample(NamedTuple):
    """What a worker has at a time."""

    at_s: float
    memory_mib: float
    descriptors: int  # without its clients' connections


def mixed_load(duration_s: float, seed: int = 0) -> Figures:
    """Let the load go on for so long, and look at the workers from time to time."""
    with ExitStack() as opened:
        database_url = opened.enter_context(durable_server()).url()
        survivor = opened.enter_context(Survivor(database_url, workers=WORKERS, **SETTINGS))
        workers = survivor.service.workers
        load = opened.enter_context(Load(survivor.service.url, STEADY, writers=WRITERS, seed=seed))
        fill_pools(survivor.service.url)
        samples = [*watched(lambda: [sample(worker) for worker in workers], duration_s)]
        used_s = [sum(worker.cpu_times()[:2]) for worker in workers]
        figures, [report] = load.end(database_url, responses=RESPONSES)
        assert [worker.pid for worker in survivor.service.workers] == [worker.pid for worker in workers]
    results = [judged(series, duration_s) for series in zip(*samples, strict=True)]
    seconds = [{**one, "cpu_s": round(cpu_s, 1)} for one, cpu_s in zip(results, used_s, strict=True)]
    return {"duration_s": duration_s, "requests": sum(report.responses.values()), "workers": seconds, **figures}


def watched(look: Callable[[], list[Sample]], duration_s: float) -> Iterator[list[Sample]]:
    """Look again and again, for so long."""
    end = time.monotonic() + duration_s
    while (left_s := end - time.monotonic()) > 0:
        time.sleep(min(left_s, max(SAMPLE_S_MIN, duration_s / SAMPLES)))
        yield look()


def sample(worker: psutil.Process) -> Sample:
    """Look at a worker."""
    connections = worker.net_connections("tcp")
    ports = {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}
    clients = [one for one in connections if one.laddr.port in ports and one.status != psutil.CONN_LISTEN]
    return Sample(time.monotonic(), worker.memory_info().rss / 2**20, worker.num_fds() - len(clients))


def judged(series: Sequence[Sample], duration_s: float) -> Figures:
    """Return what a worker had before and after. Raises AssertionError if that has grown."""
    warm = series[int(len(series) * WARM_UP_SHARE) :]
    start, end = warm[0], warm[-1]
    slope_mib = 600 * linear_regression([one.at_s for one in warm], [one.memory_mib for one in warm]).slope
    assert slope_mib < SLOPE_MIB_MAX or duration_s < SLOPE_S_MIN, (slope_mib, series)
    assert end.memory_mib - start.memory_mib < GROWTH_MIB_MAX, series
    assert end.descriptors <= start.descriptors + DESCRIPTORS_MAX, series
    return {
        "memory_mib": {
            name: round(one.memory_mib, 1) for name, one in zip(POINTS, (series[0], start, end), strict=True)
        },
        "memory_mib_max": round(max(one.memory_mib for one in series), 1),
        "slope_mib_in_10_minutes": round(slope_mib, 2),
        "descriptors": {"warm": start.descriptors, "end": end.descriptors},
    }
