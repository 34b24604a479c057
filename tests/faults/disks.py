"""A disk that is full: writes are refused as 503 storage-full, reads go on, and with room again so does everything."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from tests.conftest import migrate
from tests.faults.durable import DURABLE
from tests.faults.report import Figures
from tests.faults.trial import RESPONSES, Load, Survivor
from tests.support.postgres import PostgresServer
from tests.support.serving import ServiceProcess
from tests.support.waiting import wait_until

CAN_MOUNT = os.geteuid() == 0
SQLITE_MIB, POSTGRESQL_MIB = 8, 160
BALLAST = "ballast"
FULL = "503 storage-full"
MORE = 200  # acknowledged writes, before and after
BATCH = [{"name": "x" * 255, "price": 1.0}] * 1000


def fill_sqlite() -> Figures:
    """Fill the disk of a SQLite file."""
    with small_disk(SQLITE_MIB) as disk:
        return fill(disk, f"sqlite+aiosqlite:///{disk / 'items.db'}")


def fill_postgresql() -> Figures:
    """Fill the disk of PostgreSQL's tables. Its log of writes is elsewhere: without that PostgreSQL ends itself."""
    with small_disk(POSTGRESQL_MIB) as disk, PostgresServer(settings=DURABLE, tables_in=disk) as server:
        migrate(server.url())
        return fill(disk, server.url())


def fill(disk: Path, database_url: str) -> Figures:
    """Fill a disk under load, and make room again."""
    with ExitStack() as opened:
        service = opened.enter_context(Survivor(database_url)).service
        load = opened.enter_context(Load(service.url))
        load.wait_for(MORE)
        fill_up(disk / BALLAST)
        batches = refused_batches(service)
        (disk / BALLAST).unlink()
        recovery_s = load.recovery_s()
        load.wait_for(MORE)
        with service.client() as client:
            ids = ",".join(str(item["id"]) for item in client.get("/items", params={"name_prefix": "xx"}).json())
            while ids:  # what the batches left, which no journal has
                assert client.delete("/items", params={"ids": ids}).is_success
                ids = ",".join(str(item["id"]) for item in client.get("/items", params={"name_prefix": "xx"}).json())
        figures, [report] = load.end(database_url, responses=RESPONSES)
    assert set(report.responses) <= {"200", "201", "204", FULL, "404 item-not-found", "404 user-not-found"}, (
        report.responses
    )
    return {"batches_refused": batches, "recovery_ms": round(recovery_s * 1000), **figures}


def refused_batches(service: ServiceProcess) -> int:
    """Write batches until there is no room, and see that reads go on; return how many were refused."""
    refused = 0
    with service.client() as client:

        def is_full() -> bool:
            nonlocal refused
            response = client.post("/items", json=BATCH)
            assert response.is_success or name_of(response) == FULL, (response.status_code, response.text)
            refused += not response.is_success
            return refused >= 5

        wait_until(is_full)
        for path in ("/items?limit=10", "/users?limit=10", "/livez", "/readyz"):
            assert client.get(path).is_success
    return refused


def name_of(response: httpx.Response) -> str:
    """Return an error's status and code."""
    return f"{response.status_code} {response.json()['code']}"


def fill_up(file: Path) -> None:
    """Take all the room there is."""
    with file.open("wb", buffering=0) as ballast:
        size = 1 << 20
        while size:
            try:
                ballast.write(b"x" * size)
            except OSError:
                size //= 2


@contextmanager
def small_disk(mib: int) -> Iterator[Path]:
    """Return a file system in memory of that size, which only root can make."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        _run("mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=755", "tmpfs", folder)
        try:
            yield Path(folder)
        finally:
            _run("umount", folder)


def _run(*line: str) -> None:
    subprocess.run(line, check=True)
