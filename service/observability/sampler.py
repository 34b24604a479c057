"""What is measured now and then: the state of a worker, which other processes read between two requests of its own."""

import asyncio
import time
from collections import deque
from typing import Self

from db.tables.storage import Storage
from service.observability.metrics import NANOSECONDS, Cell, Family, Kind, Metrics
from service.observability.processes import ProcessMetrics, State
from service.worker_state import WorkerState

INTERVAL_S = 0.5
LAG_S = 15  # the lag that is shown is the largest of so long: a scrape sees what happened since the one before
CPU = "process_cpu_seconds_total", "CPU time of all workers, those that have ended included."
LAG = "event_loop_lag_seconds"
GAUGES = {
    "requests_in_flight": "Requests that are being served.",
    "queue_length": "Requests that wait in a batcher.",
    "pool_connections_used": "Connections for transactions, and on SQLite for reads and the writer, that are in use.",
    "pool_connections_max": "How many of these there may be.",
    "database_available": "Whether batches have a connection to the database: 1, or 0.",
    LAG: f"The longest that the event loop was late in the last {LAG_S} s.",
}


class Sampler:
    """Measures a worker every INTERVAL_S; it is entered to begin."""

    def __init__(self, metrics: Metrics, process: ProcessMetrics, worker_state: WorkerState, storage: Storage) -> None:
        self._process, self._worker_state, self._storage = process, worker_state, storage
        self._cpu = metrics.counter(metrics.add(Family(*CPU, Kind.COUNTER, scale=NANOSECONDS)))
        self._cpu_ns = time.process_time_ns()
        self._queues: list[Cell] = []
        self._gauges: dict[str, Cell] = {}
        for name, text in GAUGES.items():
            scale = NANOSECONDS if name.endswith("_seconds") else 1
            family = metrics.add(Family(name, text, Kind.GAUGE, ("batcher",) * (name == "queue_length"), scale))
            if family.labels:
                self._queues = [metrics.counter(family, batcher.name) for batcher in storage.batchers]
            else:
                self._gauges[name] = metrics.counter(family)
        self._lags: deque[float] = deque([0.0], maxlen=int(LAG_S / INTERVAL_S))
        process.enter()

    async def __aenter__(self) -> Self:
        self._due = asyncio.get_running_loop().time()
        self._sample()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._timer.cancel()
        self._sample()
        self._timer.cancel()

    def _sample(self) -> None:
        loop = asyncio.get_running_loop()
        self._lags.append(max(0.0, loop.time() - self._due))
        cpu_ns = time.process_time_ns()
        self._cpu.add(cpu_ns - self._cpu_ns)
        self._cpu_ns = cpu_ns
        self._process.state(State.DRAINING if self._worker_state.is_draining else State.SERVING)
        for gauge, batcher in zip(self._queues, self._storage.batchers, strict=True):
            gauge.set(batcher.queue_length)
        limiters = set(self._storage.database.locks)
        for name, value in {
            "requests_in_flight": self._worker_state.requests,
            "pool_connections_used": sum(limiter.in_use for limiter in limiters),
            "pool_connections_max": sum(limiter.limit for limiter in limiters),
            "database_available": self._storage.connections.refusal is None,
            LAG: int(max(self._lags) * NANOSECONDS),
        }.items():
            self._gauges[name].set(value)
        self._due = loop.time() + INTERVAL_S
        self._timer = loop.call_at(self._due, self._sample)
