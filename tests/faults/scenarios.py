"""Every fault that the service is put through, by name: what it is called with for the long form."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.conftest import migrate
from tests.faults import (
    clusters,
    crowds,
    cuts,
    disks,
    failovers,
    greedy,
    hours,
    inputs,
    kills,
    model,
    network,
    overload,
    restarts,
    rolling,
    schemas,
)
from tests.faults.durable import durable_server
from tests.faults.report import Figures


def on_postgresql(scenario: Callable[..., Figures], **options: Any) -> Figures:
    """Run one that only wants the address of a database."""
    with durable_server() as server:
        return scenario(server.url(), **options)


def on_sqlite(scenario: Callable[..., Figures], **options: Any) -> Figures:
    """Run one that only wants the address of a database."""
    with TemporaryDirectory() as folder:
        url = f"sqlite+aiosqlite:///{Path(folder) / 'items.db'}"
        migrate(url)
        return scenario(url, **options)


def on_both(scenario: Callable[..., Figures], **options: Any) -> Figures:
    """Run one on both databases."""
    return {"postgresql": on_postgresql(scenario, **options), "sqlite": on_sqlite(scenario, **options)}


SCENARIOS: Mapping[str, Callable[[], Figures]] = {
    "kill-worker": partial(kills.kill_worker, times=100),
    "kill-service": partial(kills.kill_service, times=100),
    "kill-postgresql": partial(kills.kill_postgresql, times=100),
    "kill-sqlite": partial(kills.kill_sqlite, times=100),
    "cuts": partial(on_postgresql, cuts.cut_writes, times=100),
    "cuts-while-finding-out": partial(on_postgresql, cuts.cut_finding_out, times=25),
    "cuts-and-a-short-outage": partial(on_postgresql, cuts.cut_for_a_short_outage, times=5),
    "cuts-and-an-outage": partial(on_postgresql, cuts.cut_for_a_long_outage, times=5),
    "cuts-of-a-crowd": partial(on_postgresql, cuts.cut_crowds, times=25),
    "restart-postgresql": partial(restarts.restart_postgresql, times=20),
    "failover-of-a-waiting-primary": partial(failovers.fail_over_waiting_often, times=100),
    "failover-of-a-frozen-primary": partial(failovers.fail_over_frozen, times=100),
    "patroni-switchover": partial(clusters.switch_over_often, times=5),
    "patroni-kill": partial(clusters.kill_often, times=5),
    "patroni-frozen-postgresql": partial(clusters.freeze_postgresql, times=5),
    "patroni-frozen-node": partial(clusters.freeze_node, times=5),
    "patroni-haproxy-reload": partial(clusters.reload_haproxy, times=15),
    "black-hole": partial(network.black_hole, duration_s=60),
    "black-holes": partial(network.black_holes, duration_s=60),
    "latency": partial(network.latency, duration_s=60),
    "resets": partial(network.resets, duration_s=60),
    "overload": partial(overload.overload, duration_s=60),
    "greedy-caller": partial(greedy.run, duration_s=60),
    "crowd": partial(crowds.run, duration_s=60),
    "full-disk-sqlite": disks.fill_sqlite,
    "full-disk-postgresql": disks.fill_postgresql,
    # One worker: on SQLite two that write all the time, with a third process, keep each other waiting for too long.
    "schema-changes": partial(on_both, schemas.change_schemas, duration_s=60, workers=1),
    "inputs": partial(on_both, inputs.send_corpus, times=5),
    "generated-inputs": partial(on_both, inputs.generate, examples=100),
    "model": partial(model.try_model, examples=150, steps=20),
    "rolling-restart": partial(rolling.restart, times=20),
    "rolling-upgrade": partial(rolling.upgrade, times=20),
    "hour": partial(hours.mixed_load, duration_s=3600),
}
