"""A run as Markdown: circumstances and caveats first, then medians."""

from collections.abc import Callable, Iterator
from statistics import median

from bench.contestants import BASELINE, CONTESTANTS
from bench.record import Run, Sample, Start
from bench.workloads import WORKLOADS

TITLES = {entry.key: entry.title for entry in CONTESTANTS}
ACTIONS = {entry.key: entry.title for entry in WORKLOADS}
MEBIBYTE = 2**20

CAVEATS = """\
Load generator, contestant and database share this machine. Each connection sends its next request when the answer to
the last one is there, so a slow contestant is asked less often, and its latencies are those at its own throughput.
Every contestant ran alone on a freshly filled table, with the same server settings; its answers were checked before the
timing. Medians of {rounds} alternating rounds of {seconds} s each. CPU is that of contestant and database together."""

HEADER = """\
| | contestant | connections | requests/s | × FastAPI | p50 ms | p99 ms | CPU µs/request | MB/worker | errors |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"""

START_HEADER = """\
| contestant | ready after s | MB/worker at rest |
|---|--:|--:|"""


def markdown(run: Run) -> str:
    """Render the whole run."""
    plan = run.plan
    caveats = CAVEATS.format(rounds=plan.rounds, seconds=plan.duration_seconds)
    circumstances = [
        f"{run.versions['database']}, {plan.rows:,} rows, workers: {plan.workers}, {run.started:%Y-%m-%d}",
        ", ".join(f"{name} {value}" for name, value in run.machine.items()),
        ", ".join(f"{name} {value}" for name, value in run.versions.items() if name != "database"),
    ]
    return "\n\n".join(
        [
            "\n".join(f"- {line}" for line in circumstances),
            caveats,
            "\n".join([HEADER, *_rows(run)]),
            "\n".join([START_HEADER, *_start_rows(run)]),
        ]
    )


def _rows(run: Run) -> Iterator[str]:
    for workload in run.plan.workloads:
        for connections in run.plan.connections:
            of_all = [x for x in run.samples if (x.workload, x.connections) == (workload, connections)]
            baseline = _rate([x for x in of_all if x.contestant == BASELINE])
            for contestant in run.plan.contestants:
                samples = [x for x in of_all if x.contestant == contestant]
                if samples:
                    yield _row(samples, baseline)


def _row(samples: list[Sample], baseline: float) -> str:
    first, rate = samples[0], _rate(samples)
    cells = [
        ACTIONS[first.workload],
        TITLES[first.contestant],
        f"{first.connections}",
        f"{rate:,.0f}",
        f"{rate / baseline:.1f}" if baseline else "–",
        f"{_median(samples, lambda x: x.load.p50_ms):.2f}",
        f"{_median(samples, lambda x: x.load.p99_ms):.2f}",
        f"{_median(samples, lambda x: x.cpu_us_per_request):.0f}",
        f"{_median(samples, lambda x: x.rss_bytes) / MEBIBYTE:.0f}",
        f"{sum(x.errors for x in samples)}",
    ]
    return f"| {' | '.join(cells)} |"


def _start_rows(run: Run) -> Iterator[str]:
    for contestant in run.plan.contestants:
        starts = [x for x in run.starts if x.contestant == contestant]
        if starts:
            yield f"| {TITLES[contestant]} | {_median_start(starts)} |"


def _median_start(starts: list[Start]) -> str:
    ready_seconds = median(x.ready_seconds for x in starts)
    return f"{ready_seconds:.2f} | {median(x.rss_bytes for x in starts) / MEBIBYTE:.0f}"


def _rate(samples: list[Sample]) -> float:
    return _median(samples, lambda x: x.requests_per_second)


def _median(samples: list[Sample], value: Callable[[Sample], float]) -> float:
    return median(map(value, samples)) if samples else 0.0
