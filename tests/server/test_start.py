"""The start of `serve` with a database that cannot be used yet: one line says why, in the words of `check`."""

import json
from typing import Any

import pytest

from db import revisions
from tests.support.postgres import HOST, PostgresServer
from tests.support.serving import ServiceProcess
from tests.support.waiting import wait_until


class StartingProcess(ServiceProcess):
    """A service that is up when its workers are, ready or not."""

    def is_ready(self) -> bool:
        """Whether all its workers have started."""
        return self.log.count("Started worker-") >= self._workers


def warnings(service: ServiceProcess) -> list[str]:
    """Return the messages of warnings and errors so far."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in service.log.splitlines()]
    return [line["message"] for line in lines if line["level"].lower() != "info"]


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_schema_that_is_behind_is_one_line_at_the_start(empty_database_url: str) -> None:
    with StartingProcess(empty_database_url, workers=2) as service:
        reason = f"the schema is at base, not at {revisions.head()}: run python -m service migrate"
        assert warnings(service) == [f"The service cannot become ready: {reason}"]


def test_a_database_that_is_down_is_one_line_at_the_start_and_one_when_it_is_back() -> None:
    with PostgresServer() as server:
        server.stop()
        with StartingProcess(server.url(), workers=2) as service:
            [line] = warnings(service)
            assert line.startswith("The database postgresql+asyncpg://postgres:***@127.0.0.1:")
            assert f" cannot be used: the connection to the database failed: {HOST}:{server.port}: " in line
            server.start()
            wait_until(lambda: len(warnings(service)) > 1)
            assert warnings(service)[1:] == ["the database can be used again"]
            server.stop("immediate")
            wait_until(lambda: len(warnings(service)) > 2)
            assert warnings(service)[2].startswith("the database cannot be used: ")
            assert f"{HOST}:{server.port}" in warnings(service)[2]
            server.start()
            wait_until(lambda: len(warnings(service)) > 3)
            assert warnings(service)[3:] == ["the database can be used again"]
