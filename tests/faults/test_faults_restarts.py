"""PostgreSQL is restarted under load."""

from tests.faults.restarts import restart_postgresql


def test_the_service_is_back_as_it_was_soon_after_its_database() -> None:
    assert restart_postgresql(2)["acknowledged"]
