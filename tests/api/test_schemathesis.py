"""Schemathesis, with all of its checks, against a service that is served as in production."""

from tests.faults.inputs import generate

RUN_SECONDS_MAX = 280


def test_schemathesis_finds_nothing(database_url: str) -> None:
    assert generate(database_url, limit_s=RUN_SECONDS_MAX)["inputs"] > 1000
