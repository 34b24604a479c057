"""Kill -9 of whatever serves: what was acknowledged is there, once. `python -m tests.faults` has the long form."""

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import migrate
from tests.faults.durable import durable_server
from tests.faults.kills import WRITES, kill_postgresql, kill_service, kill_sqlite, kill_worker
from tests.faults.report import Figures
from tests.support.postgres import Databases

TIMES = 2


@pytest.fixture(scope="module")
def durable() -> Iterator[Databases]:
    with durable_server() as server, Databases(server.url(), migrate) as databases:
        yield databases


@pytest.mark.parametrize("kill", [kill_worker, kill_service])
def test_a_kill_of_what_serves_loses_nothing_and_doubles_nothing(
    kill: Callable[..., Figures], durable: Databases
) -> None:
    with durable.fresh() as url:
        assert kill(TIMES, database_url=url)["acknowledged"] > TIMES * WRITES


@pytest.mark.parametrize("kill", [kill_postgresql, kill_sqlite])
def test_a_kill_of_the_database_loses_nothing_and_doubles_nothing(kill: Callable[..., Figures]) -> None:
    assert kill(TIMES)["acknowledged"] > TIMES * WRITES
