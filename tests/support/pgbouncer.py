"""A PgBouncer of the tests' own, in transaction mode, in front of a PostgreSQL server."""

import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from sqlalchemy import make_url

from tests.support.ports import free_port
from tests.support.postgres import HOST, LIMIT_S, _folder, _give, _runs_as
from tests.support.waiting import wait_until

BINARY = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
STARTED = "process up"


class PgBouncerServer:
    """PgBouncer in a folder of its own, there from entering the block until leaving it."""

    def __init__(self, server_url: str, connections: int = 2, *, ignored: str = "") -> None:
        self._server = make_url(server_url)
        self._connections = connections
        self._ignored = ignored  # settings of clients that it drops without a word
        self._port = free_port()
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            runs_as = _runs_as()
            self._folder = opened.enter_context(_folder(runs_as))
            for name, text in {"users": self._users(), "pgbouncer.ini": self._configuration()}.items():
                (self._folder / name).write_text(text)
                _give(self._folder / name, runs_as)
            self.start()
            opened.callback(self.stop)
            self._resources = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    @property
    def log(self) -> str:
        """What it had to say so far."""
        return (self._folder / "log").read_text(errors="replace")

    def url(self, database_url: str) -> str:
        """Return the address of one of the server's databases, through PgBouncer."""
        url = make_url(database_url).set(host=HOST, port=self._port)
        return url.render_as_string(hide_password=False)

    def start(self) -> None:
        """Start it, and return once it accepts connections."""
        assert BINARY is not None
        command: list[str | Path] = [BINARY, self._folder / "pgbouncer.ini"]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,  # Ctrl-C is for us
                **_runs_as(),  # as PostgreSQL, it refuses to run as root
            )
        wait_until(lambda: self._process.poll() is not None or STARTED in self.log)
        assert self._process.poll() is None, self.log

    def stop(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait(LIMIT_S)

    def _users(self) -> str:
        return f'"{self._server.username}" "{self._server.password}"\n'

    def _configuration(self) -> str:
        return f"""
[databases]
* = host={self._server.host} port={self._server.port or 5432}
[pgbouncer]
listen_addr = {HOST}
listen_port = {self._port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {self._folder / "users"}
pool_mode = transaction
default_pool_size = {self._connections}
max_client_conn = 300
ignore_startup_parameters = {self._ignored}
"""
