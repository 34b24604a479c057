"""Samples of all rounds, brought down to one figure for each cell of the contest."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

from msgspec import Struct

from bench.contestants import BASELINE
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
    times: float
    """The median of the rounds' ratios to the baseline's; 0 without any."""
    items: int
    """How many items each response is about."""
    p50_ms: float
    p99_ms: float
    cpu_us: float
    pss_bytes: float
    errors: int


Figures = dict[Key, Figure]


class GrowthKey(NamedTuple):
    """What was asked, of how many rows, and whether the first time after a start."""

    database: str
    workload: str
    rows: int
    cold: bool


def figures(run: Run) -> Figures:
    """Compute the figure of every cell that was measured."""
    samples: dict[Key, list[Sample]] = defaultdict(list)
    for sample in run.samples:
        samples[_key(sample)].append(sample)
    ratios = Ratios(run)
    return {
        key: _figure(rounds, ITEMS[key.workload], times=ratios.median(key, BASELINE)) for key, rounds in samples.items()
    }


class Ratios:
    """How many times as fast one contestant was as another, round by round: a round was measured side by side."""

    def __init__(self, run: Run) -> None:
        self._rates: dict[Key, dict[int, float]] = defaultdict(dict)
        for sample in run.samples:
            self._rates[_key(sample)][sample.round] = sample.requests_per_second

    def median(self, key: Key, other: str) -> float:
        """Return the median of the rounds' ratios to another contestant in the same cell; 0 without any."""
        rates, others = self._rates.get(key, {}), self._rates.get(key._replace(contestant=other), {})
        return median([rate / others[number] for number, rate in rates.items() if others.get(number)] or [0.0])


def grown(growth: Growth) -> dict[GrowthKey, Figure]:
    """Compute the figure of every question on every size of table, the questions one after the other."""
    samples: dict[GrowthKey, list[Sample]] = defaultdict(list)
    for point in growth.points:
        key = GrowthKey(point.sample.database, point.sample.workload, point.rows, point.cold)
        samples[key].append(point.sample)
    # Figures that are older than a question may have others.
    order = [entry.key for entry in GROWTH_WORKLOADS]
    keys = [key for key in samples if key.workload in order]
    keys.sort(key=lambda key: (key.database, order.index(key.workload), key.cold, key.rows))
    return {key: _figure(samples[key], ITEMS[key.workload]) for key in keys}


def _key(sample: Sample) -> Key:
    return Key(sample.database, sample.workload, sample.connections, sample.contestant)


def _figure(rounds: Sequence[Sample], items: int, *, times: float = 0.0) -> Figure:
    def middle(value: Callable[[Sample], float]) -> float:
        return median(map(value, rounds))

    rates = [sample.requests_per_second for sample in rounds]
    return Figure(
        rate=median(rates),
        rate_min=min(rates),
        rate_max=max(rates),
        times=times,
        items=items,
        p50_ms=middle(lambda sample: sample.load.p50_ms),
        p99_ms=middle(lambda sample: sample.load.p99_ms),
        cpu_us=middle(lambda sample: sample.cpu_us_per_request),
        pss_bytes=middle(lambda sample: sample.pss_bytes),
        errors=sum(sample.errors for sample in rounds),
    )
