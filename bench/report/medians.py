"""Samples of all rounds, brought down to one figure for each cell of the contest."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

from msgspec import Struct

from bench.record import Growth, Run, Sample
from bench.workloads import GROWTH_WORKLOADS, WORKLOADS

ITEMS = {entry.key: entry.items for entry in (*WORKLOADS, *GROWTH_WORKLOADS)}


class Key(NamedTuple):
    """Who was asked what, where, and by how many."""

    database: str
    workload: str
    connections: int
    contestant: str


class Figure(Struct, frozen=True, kw_only=True):
    """The median of every measure; of the rate, the slowest and the fastest round too."""

    rate: float
    rate_min: float
    rate_max: float
    items: int
    """How many items each response is about."""
    p50_ms: float
    p99_ms: float
    cpu_us: float
    rss_bytes: float
    errors: int


Figures = dict[Key, Figure]


class GrowthKey(NamedTuple):
    """What was asked, and of how many rows."""

    database: str
    workload: str
    rows: int


def figures(run: Run) -> Figures:
    """Compute the figure of every cell that was measured."""
    samples: dict[Key, list[Sample]] = defaultdict(list)
    for sample in run.samples:
        samples[_key(sample)].append(sample)
    return {key: _figure(rounds, ITEMS[key.workload]) for key, rounds in samples.items()}


def multiple(run: Run, key: Key, other: Key) -> float:
    """Compute the median of the rounds' ratios of two cells, which were measured side by side; 0 without any."""
    rates = {(_key(sample), sample.round): sample.requests_per_second for sample in run.samples}
    ratios = [
        rate / rates[other, number]
        for (cell, number), rate in rates.items()
        if cell == key and rates.get((other, number))
    ]
    return median(ratios) if ratios else 0.0


def grown(growth: Growth) -> dict[GrowthKey, Figure]:
    """Compute the figure of every question on every size of table, the questions one after the other."""
    samples: dict[GrowthKey, list[Sample]] = defaultdict(list)
    for point in growth.points:
        samples[GrowthKey(point.sample.database, point.sample.workload, point.rows)].append(point.sample)
    order = [entry.key for entry in GROWTH_WORKLOADS]
    keys = sorted(samples, key=lambda key: (key.database, order.index(key.workload), key.rows))
    return {key: _figure(samples[key], ITEMS[key.workload]) for key in keys}


def _key(sample: Sample) -> Key:
    return Key(sample.database, sample.workload, sample.connections, sample.contestant)


def _figure(rounds: Sequence[Sample], items: int) -> Figure:
    def middle(value: Callable[[Sample], float]) -> float:
        return median(map(value, rounds))

    rates = [sample.requests_per_second for sample in rounds]
    return Figure(
        rate=median(rates),
        rate_min=min(rates),
        rate_max=max(rates),
        items=items,
        p50_ms=middle(lambda sample: sample.load.p50_ms),
        p99_ms=middle(lambda sample: sample.load.p99_ms),
        cpu_us=middle(lambda sample: sample.cpu_us_per_request),
        rss_bytes=middle(lambda sample: sample.rss_bytes),
        errors=sum(sample.errors for sample in rounds),
    )
