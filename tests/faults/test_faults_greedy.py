"""The short form of a greedy caller."""

import pytest

from tests.faults import greedy


@pytest.mark.parametrize("database", greedy.DATABASES)
def test_beside_a_greedy_caller_a_quiet_one_is_served(database: str) -> None:
    opened, kinds = greedy.DATABASES[database]
    with opened() as served:
        for kind in kinds:
            figures = greedy.beside(served, kind, 1.0, clients=256)  # raises for a request that is refused
            assert figures["greedy_per_s"] > 0, figures
            assert figures["quiet_beside_p50_ms"] > 0, figures  # how much is for the long form, on a quiet machine
