"""Crowds that say nothing, in the short form."""

from tests.faults import crowds


def test_beside_a_crowd_that_says_nothing_every_other_client_is_served() -> None:
    crowds.allow_descriptors()
    figures = crowds.beside_crowds(3, idle=300, half_sent=100)
    assert min(figures["requests"].values()) > 100
