"""The short form of a greedy caller."""

import pytest

from tests.faults import greedy


@pytest.mark.parametrize("database", greedy.DATABASES)
def test_beside_a_greedy_caller_a_quiet_one_waits_for_a_batch_or_two(database: str) -> None:
    opened, kinds = greedy.DATABASES[database]
    with opened() as served:
        for kind in kinds:
            figures = greedy.beside(served, kind, 1.0, clients=256)
            assert figures["quiet_beside_p50_ms"] < figures["greedy_p50_ms"] / 3, figures
