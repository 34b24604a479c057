"""All metrics of a worker, made in the order in which every process makes them."""

from collections.abc import Iterable, Mapping

from db.tables.storage import Storage
from service.cells import Slot
from service.observability.data_path import DataPathMetrics
from service.observability.exposition import Exposition
from service.observability.metrics import Metrics
from service.observability.processes import ProcessMetrics
from service.observability.requests import RequestMetrics, Routed
from service.observability.sampler import Sampler
from service.worker_state import WorkerState


class WorkerMetrics:
    """What counts requests, what counts the work for them, and what shows both, beside all that others counted."""

    def __init__(self, slot: Slot, routes: Iterable[Routed], build: Mapping[str, str]) -> None:
        self._metrics = Metrics(*slot)
        self._process = ProcessMetrics(self._metrics)
        self.requests = RequestMetrics(self._metrics, routes)
        self.data_path = DataPathMetrics(self._metrics)
        self.exposition = Exposition(self._metrics, build)

    def sampler(self, worker_state: WorkerState, storage: Storage) -> Sampler:
        """Return what measures the worker now and then; all batchers of the storage have been made."""
        return Sampler(self._metrics, self._process, worker_state, storage)
