"""A network that does not do what it should: every request has a response in time, and nothing is lost."""

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import migrate
from tests.faults.durable import durable_server
from tests.faults.network import WRITES, black_hole, black_holes, latency, resets
from tests.faults.report import Figures
from tests.support.postgres import Databases


@pytest.fixture(scope="module")
def durable() -> Iterator[Databases]:
    with durable_server() as server, Databases(server.url(), migrate) as databases:
        yield databases


@pytest.mark.parametrize(
    ("condition", "duration_s"), [(black_hole, 3.2), (black_holes, 2.5), (latency, 1.5), (resets, 1.0)]
)
def test_every_request_is_answered_within_its_deadline(
    condition: Callable[..., Figures], duration_s: float, durable: Databases
) -> None:
    with durable.fresh() as url:
        assert condition(duration_s, database_url=url)["acknowledged"] >= WRITES
