"""A node of a Patroni cluster: PostgreSQL 15 and the Patroni that runs it, both Debian's."""

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil

from tests.support.ports import free_port
from tests.support.postgres import HOST, LIMIT_S, SUPERUSER, _runs_as
from tests.support.waiting import wait_until

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
POSTGRESQL = Path("/usr/lib/postgresql/15/bin")
REST_TIMEOUT_S = 1.0


class Leader(NamedTuple):
    """One run of a node that its Patroni says is the primary."""

    node: "Node"
    started: str  # when its postmaster did, as Patroni writes it


class Program:
    """A server of the cluster, without root's rights, that writes its log to a folder."""

    def __init__(self, folder: Path, name: str, command: Sequence[str | Path]) -> None:
        self._log = folder / f"{name}.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=folder,
                env={"PATH": PATH, "HOME": str(folder), "LC_ALL": "C.UTF-8"},
                start_new_session=True,  # Ctrl-C is for us
                **_runs_as(),
            )

    @property
    def log(self) -> str:
        """What it had to say so far."""
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        """Kill it, and what it has started in its session."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(LIMIT_S)


class Node:
    """A PostgreSQL server and the Patroni that runs it."""

    def __init__(self, folder: Path, name: str, bootstrap: Mapping[str, Any], password: str, etcd_port: int) -> None:
        self.name = name
        self.port, self.rest_port = free_port(), free_port()
        self._folder = folder
        self._data = folder / name
        self._rest = httpx.Client(base_url=f"http://{HOST}:{self.rest_port}", timeout=REST_TIMEOUT_S)
        rest, address = f"{HOST}:{self.rest_port}", f"{HOST}:{self.port}"
        account = {"username": SUPERUSER, "password": password}
        self._configuration = {
            "scope": "items",
            "name": name,
            "restapi": {"listen": rest, "connect_address": rest},
            "etcd": {"host": f"{HOST}:{etcd_port}"},  # the section of the v2 API
            "bootstrap": bootstrap,
            "postgresql": {
                "listen": address,
                "connect_address": address,
                "data_dir": str(self._data),
                "bin_dir": str(POSTGRESQL),
                "pgpass": str(folder / f"{name}.pgpass"),
                "authentication": {"superuser": account, "replication": {**account, "username": "replicator"}},
                "parameters": {"unix_socket_directories": str(folder)},
                "pg_hba": [f"host {database} all {HOST}/32 scram-sha-256" for database in ("all", "replication")],
                "remove_data_directory_on_rewind_failure": True,
                "remove_data_directory_on_diverged_timelines": True,
            },
        }

    def __str__(self) -> str:
        return self.name

    def start(self) -> None:
        """Start Patroni, which starts PostgreSQL."""
        path = self._folder / f"{self.name}.yml"
        path.write_text(json.dumps(self._configuration))  # which is YAML, too
        self._patroni = Program(self._folder, self.name, ["/usr/bin/patroni", path])

    def stop(self) -> None:
        """End everything at once."""
        self.thaw()
        self._patroni.stop()
        for process in self._postgres()[:1]:
            process.send_signal(signal.SIGQUIT)
            psutil.wait_procs([process], LIMIT_S)
        self._rest.close()

    def ask(self, method: str, path: str, body: Any = None, timeout_s: float = REST_TIMEOUT_S) -> httpx.Response:
        """Ask Patroni."""
        return self._rest.request(method, path, json=body, timeout=timeout_s)

    def leader(self) -> Leader | None:
        """Return this run of the node if Patroni says that it is the primary."""
        with suppress(httpx.TransportError):
            response = self.ask("GET", "/primary")
            found = response.json()
            if response.is_success and found["state"] == "running":  # or it is stopping, in a switchover
                return Leader(self, found["postmaster_start_time"])
        return None

    def kill(self) -> None:
        """Kill -9 the postmaster; the other processes of the server notice it."""
        self._postgres()[0].kill()

    def freeze(self, *, patroni: bool) -> None:
        """Suspend every process of PostgreSQL, and those of Patroni with it."""
        wait_until(lambda: not self._suspend(patroni), LIMIT_S)

    def thaw(self) -> None:
        """Resume every process, which knows nothing of the time in between."""
        for process in [*reversed(self._postgres()), *self._patronis()]:
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def _suspend(self, patroni: bool) -> bool:
        running = [
            process
            for process in [*(self._patronis() if patroni else []), *self._postgres()]
            if process.status() not in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
        ]
        for process in running:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        return bool(running)

    def _postgres(self) -> list[psutil.Process]:
        """List the postmaster, which starts all others, and those."""
        with suppress(FileNotFoundError, psutil.NoSuchProcess, ValueError, IndexError):
            postmaster = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
            if postmaster.name() == "postgres":  # not another process with the number of one that was killed
                return [postmaster, *postmaster.children()]
        return []

    def _patronis(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            patroni = psutil.Process(self._patroni.process.pid)
            return [patroni, *(one for one in patroni.children(recursive=True) if one.name() != "postgres")]
        return []
