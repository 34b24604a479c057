"""What is exposed of a worker that has measured nothing yet."""

from db.batching.queue import Limits
from db.engines.database import Options
from db.engines.engine import open_database
from db.tables.storage import Storage
from service.app import served_routes, worker_metrics
from service.observability.sampler import GAUGES
from service.settings import Settings
from service.worker_state import WorkerState
from tests.support.exposed import Exposed


async def test_a_worker_that_starts_is_counted_and_has_no_gauges_yet() -> None:
    metrics, worker_state = worker_metrics(served_routes(Settings()), WorkerState()), WorkerState()
    database = open_database("sqlite+aiosqlite://", Options(observer=metrics.data_path))
    storage = Storage(database, Limits(), coalesce=True, batch_connections=3, idempotency_keys_max=1)
    sampler = metrics.sampler(worker_state, storage)

    def found() -> Exposed:
        return Exposed(metrics.exposition.text("")[0].decode())

    assert found().sum("workers", state="starting") == 1
    assert not [list(found().of(name)) for name in GAUGES if list(found().of(name))]
    async with sampler:
        assert found().sum("workers", state="serving") == 1
        assert all(list(found().of(name)) for name in GAUGES.keys() - {"queue_length"})  # there are no batchers
    await database.close()
