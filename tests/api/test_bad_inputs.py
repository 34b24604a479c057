"""Hostile requests on the wire: none leads to a failure of the service, and none is left hanging."""

from tests.faults.corpus import corpus
from tests.faults.inputs import send_corpus


def test_the_corpus_is_large_and_each_of_its_cases_is_another() -> None:
    cases = corpus()
    assert len({case.sent for case in cases}) == len(cases) > 300
    assert len({case.name for case in cases}) == len(cases)


def test_no_input_leads_to_a_failure_or_left_hanging(database_url: str) -> None:
    figures = send_corpus(database_url)
    assert figures["inputs"] == len(corpus())
    # They come as far as they should.
    assert set(figures["statuses"]) >= {200, 201, 400, 404, 405, 406, 412, 413, 414, 415, 422, 431}
