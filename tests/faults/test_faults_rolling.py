"""A rolling restart, and a rolling upgrade, under locust, in their short forms."""

from tests.faults import rolling


def test_no_request_fails_while_instances_are_replaced() -> None:
    assert min(rolling.restart(times=1)["requests"].values()) > rolling.SERVED_MIN


def test_no_request_fails_while_the_schema_is_migrated_and_instances_are_upgraded() -> None:
    assert min(rolling.upgrade(times=1)["requests"].values()) > rolling.SERVED_MIN
