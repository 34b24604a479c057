"""A rolling restart under locust, in its short form."""

from tests.faults import rolling


def test_no_request_fails_while_instances_are_replaced() -> None:
    assert min(rolling.restart(times=1)["requests"].values()) > rolling.SERVED_MIN
