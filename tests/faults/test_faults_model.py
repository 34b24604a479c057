"""Whatever befalls its database, the service responds as a dictionary would: the short form."""

from tests.faults.model import try_model


def test_whatever_befalls_its_database_the_service_responds_as_a_dictionary_would() -> None:
    figures = try_model(examples=3)
    assert figures["cuts"]
    assert figures["resets"]
