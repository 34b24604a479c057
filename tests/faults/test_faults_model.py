"""Whatever befalls its database, the service answers as a dictionary would: the short form of tests/faults/model.py."""

from tests.faults.model import try_model


def test_whatever_befalls_its_database_the_service_answers_as_a_dictionary_would() -> None:
    figures = try_model(examples=5)
    assert figures["cuts"]
    assert figures["resets"]
