"""The short form of overload: most is refused, and quickly, and what is accepted is done."""

from collections.abc import Iterator

import pytest

from tests.faults.durable import durable_server
from tests.faults.overload import KINDS, measure, sum_up, too_slow
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with durable_server() as server:
        yield server


@pytest.mark.parametrize("name", [name for name in KINDS if name.startswith("batches")])
def test_of_five_times_too_much_most_is_refused_at_once_and_the_rest_done(server: PostgresServer, name: str) -> None:
    measured = measure(server, KINDS[name], 1.0)
    figures = sum_up(KINDS[name], measured)
    assert len(measured.shed) > len(measured.accepted) > 10, figures
    assert figures["shed_p50_ms"] < figures["accepted_p50_ms"] / 2, figures
    assert len(measured.probes) > 20, figures


FIGURES = {
    "goodput_of_peak": 0.9,
    "accepted_p99_of_unloaded": 2.5,
    "shed_p99_ms": 5.0,
    "reads_p99_of_unloaded": 1.1,
    "after_p50_ms": 40.0,
    "unloaded_p50_ms": 40.0,
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("goodput_of_peak", 0.7),
        ("accepted_p99_of_unloaded", 3.1),
        ("shed_p99_ms", 11.0),
        ("reads_p99_of_unloaded", 4.0),
        ("after_p50_ms", 100.0),
    ],
)
def test_what_is_slower_than_promised_is_named(name: str, value: float) -> None:
    assert too_slow(FIGURES) == []
    assert too_slow({**FIGURES, name: value}) == [f"{name} is {value}"]
