"""A load that goes on: nothing grows."""

from tests.faults.hours import mixed_load


def test_memory_and_descriptors_stay_what_they_are() -> None:
    assert mixed_load(3.0)["requests"]
