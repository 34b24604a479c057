"""A failover to a synchronous standby loses nothing acknowledged: the short form of tests/faults/failovers.py."""

import pytest

from tests.faults.failovers import WRITES, Absence, fail_over_frozen, fail_over_waiting, write_of

ABSENCES = [
    Absence(frozen=False, troubles=["backends_ended", "waits_cancelled"]),
    Absence(frozen=False, troubles=["crashes"]),
]


def test_with_a_primary_that_waits_for_its_standby_nothing_is_lost_that_was_acknowledged() -> None:
    figures = fail_over_waiting(ABSENCES)
    assert figures["waiting_backends_max"]
    assert figures["acknowledged"] > len(ABSENCES) * WRITES


def test_a_primary_that_was_frozen_and_goes_on_is_left_alone_once_its_standby_was_found() -> None:
    assert fail_over_frozen(1)["acknowledged"] > WRITES


@pytest.mark.parametrize(("name", "number"), [("0-12.3", 12), ("0-12.3_45", 45)])
def test_a_row_is_named_by_the_writes_that_created_and_updated_it(name: str, number: int) -> None:
    assert write_of(name) == number
