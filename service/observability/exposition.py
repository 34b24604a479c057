"""The exposition: what all processes have counted, in Prometheus' text format, which prometheus-client writes."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from time import monotonic_ns

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from service.cells import SUPERVISOR
from service.observability.metrics import NANOSECONDS, Family, Kind, Metrics
from service.observability.processes import SAMPLED, USES, Process, State, processes, uses
from service.observability.sampler import INTERVAL_S, LAG

PREFIX = "itemsvc_"


class Exposition(Collector):
    """Collects the cells of all slots, as any of the processes may."""

    def __init__(self, metrics: Metrics, build: Mapping[str, str]) -> None:
        self._metrics = metrics
        self._build = build
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    @property
    def _lag(self) -> int:
        """The cell of the event loop's lag."""
        return next(family.series[()] for family in self._metrics.families if family.name == LAG)

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics and their media type: OpenMetrics if a client asks for it, else Prometheus' own."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is no number, by prometheus-client 0.26
            encode, content_type = choose_encoder("")
        return encode(self.registry), content_type

    def describe(self) -> list[Metric]:
        """Return nothing: names are unique, as cells are given to each once."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the families with their series."""
        slots, used = self._metrics.slots, self._metrics.used
        cells = [slots.cells(slot)[:used].tolist() for slot in range(slots.count)]
        totals = list(map(sum, zip(*cells, strict=True)))
        present = list(processes(slots))
        # One that starts has measured nothing yet: its zeros would be those of a database that cannot be reached.
        workers = {
            one.name: with_silence(cells[one.slot], self._lag)
            for one in present
            if one.slot != SUPERVISOR and one.state is not State.STARTING
        }
        for family in self._metrics.families:
            if family.kind is Kind.COUNTER:
                yield _counters(family, totals)
            elif family.kind is Kind.HISTOGRAM:
                yield _histograms(family, totals)
            else:
                yield _gauges(family, workers)
        yield from _of_processes(present)
        yield GaugeMetricFamily(PREFIX + "workers_configured", "Workers that there should be.", slots.workers)
        info = GaugeMetricFamily(PREFIX + "build_info", "What the service is made of.", labels=list(self._build))
        info.add_metric(list(self._build.values()), 1)
        yield info


def with_silence(cells: list[int], lag: int) -> list[int]:
    """Return a worker's cells with the lag that it cannot note itself: of an event loop that still does not go on."""
    cells[lag] = max(cells[lag], monotonic_ns() - cells[SAMPLED] - int(INTERVAL_S * NANOSECONDS))
    return cells


def _counters(family: Family, totals: Sequence[int]) -> Metric:
    metric = CounterMetricFamily(PREFIX + family.name, family.help, labels=family.labels)
    for labels, cell in family.series.items():
        if totals[cell] or family.always is None or labels[-1] in family.always:
            metric.add_metric(labels, totals[cell] / family.scale)
    return metric


def _histograms(family: Family, totals: Sequence[int]) -> Metric:
    metric = HistogramMetricFamily(PREFIX + family.name, family.help, labels=family.labels)
    bounds = [*(str(bound / family.scale) for bound in family.bounds), "+Inf"]
    for labels, first in family.series.items():
        counts = list(accumulate(totals[first : first + len(bounds)]))
        if counts[-1]:
            total = totals[first + len(bounds)] / family.scale
            metric.add_metric(labels, list(zip(bounds, counts, strict=True)), total)
    return metric


def _gauges(family: Family, cells: Mapping[str, Sequence[int]]) -> Metric:
    metric = GaugeMetricFamily(PREFIX + family.name, family.help, labels=[*family.labels, "worker"])
    for worker, values in cells.items():
        for labels, cell in family.series.items():
            metric.add_metric([*labels, worker], values[cell] / family.scale)
    return metric


def _of_processes(present: Sequence[Process]) -> Iterator[Metric]:
    for name, (text, _) in USES.items():
        metric = GaugeMetricFamily(PREFIX + name, text, labels=["worker"])
        for worker, value in uses(name, present):
            metric.add_metric([worker], value)
        yield metric
    states = [process.state for process in present if process.slot != SUPERVISOR]
    metric = GaugeMetricFamily(PREFIX + "workers", "Workers, by what they do.", labels=["state"])
    for state in State:
        metric.add_metric([state.name.lower()], states.count(state))
    yield metric
