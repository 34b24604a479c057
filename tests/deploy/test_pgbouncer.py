"""PgBouncer with the configuration that is deployed, in front of a real PostgreSQL."""

from collections.abc import Iterator

import pytest

from tests.deploy.dockerfile import ROOT
from tests.support.pgbouncer import BINARY, PgBouncerServer
from tests.support.serving import ServiceProcess

pytestmark = [
    pytest.mark.skipif(BINARY is None, reason="PgBouncer is not installed; on Debian, apt-get install pgbouncer"),
    pytest.mark.parametrize("backend", ["postgresql"], indirect=True),
]
INI = ROOT / "deploy" / "pgbouncer" / "pgbouncer.ini"


class DeployedPgBouncer(PgBouncerServer):
    """PgBouncer with the file that is deployed, in which only places are others."""

    def _configuration(self) -> str:
        text = INI.read_text(encoding="utf-8")
        for deployed, here in {
            "host=postgresql port=5432": f"host={self._server.host} port={self._server.port}",
            "listen_addr = *": "listen_addr = 127.0.0.1",
            "listen_port = 6432": f"listen_port = {self._port}",
            "/run/secrets/pgbouncer/userlist.txt": str(self._folder / "users"),
        }.items():
            assert text.count(deployed) == 1
            text = text.replace(deployed, here)
        return text


@pytest.fixture
def pgbouncer(postgres_url: str) -> Iterator[PgBouncerServer]:
    with DeployedPgBouncer(postgres_url) as pgbouncer:
        yield pgbouncer


def test_the_service_works_behind_pgbouncer_as_it_is_deployed(pgbouncer: PgBouncerServer, database_url: str) -> None:
    with ServiceProcess(pgbouncer.url(database_url), ITEMSVC_PGBOUNCER="on") as service, service.client() as client:
        item = client.post("/items", json={"name": "lamp", "price": 1.0, "in_stock": True}).json()
        assert client.get(f"/items/{item['id']}").json() == item
    assert "WARNING" not in pgbouncer.log
    assert "ERROR" not in pgbouncer.log
