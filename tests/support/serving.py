"""The service as its users have it: processes of their own, started by the command line."""

import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import httpx
import psutil

from tests.support.waiting import LIMIT_S, wait_until

ROOT = Path(__file__).parent.parent.parent
LISTENING = "Listening at: "
# A test that does not ask how the service drains need not wait for it.
QUICK = {"PORT": "0", "ITEMSVC_DRAIN_DELAY_MS": "0"}


class ServiceProcess:
    """`python -m service serve` on a free port, there from entering the block until leaving it."""

    verify: ssl.SSLContext | bool = True  # by which its clients know it, where it speaks TLS

    def __init__(self, database_url: str, *, workers: int = 1, files_max: str = "", **settings: str) -> None:
        address = {"DATABASE_URL": database_url} if database_url else {}  # or it is in a file
        self._environ = {**QUICK, **address, "ITEMSVC_WORKERS": str(workers), **settings}
        self._workers = workers
        # As a shell limits the files that a process may open.
        self._limit = ["sh", "-c", f'ulimit -n {files_max}; exec "$@"', "sh"] if files_max else []
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            folder = Path(opened.enter_context(TemporaryDirectory()))
            self._log = folder / "log"
            with self._log.open("wb") as log:
                self.process = subprocess.Popen(
                    [*self._limit, sys.executable, "-m", "service", "serve"],
                    stdout=log,
                    stderr=log,
                    cwd=folder,
                    env={**os.environ, "PYTHONPATH": str(ROOT), **self._environ},
                    start_new_session=True,  # a process group, as a shell makes one
                )
            opened.callback(self.kill)
            wait_until(lambda: self.process.poll() is not None or self._address())
            self.url = self._address()
            assert self.url, self.log
            wait_until(lambda: self.process.poll() is not None or self.is_ready())
            assert self.process.poll() is None, self.log
            self._resources = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    @property
    def log(self) -> str:
        """What the service had to say so far."""
        return self._log.read_text(errors="replace")

    @property
    def workers(self) -> list[psutil.Process]:
        """The processes that serve."""
        return psutil.Process(self.process.pid).children()

    def is_ready(self) -> bool:
        """Whether the service serves, with all its workers."""
        try:
            ready = httpx.get(f"{self.url}/readyz", verify=self.verify).is_success
            return ready and self.log.count("Started worker-") >= self._workers
        except httpx.TransportError:
            return False

    @contextmanager
    def client(self, **options: Any) -> Iterator[httpx.Client]:
        """Return a client that waits for its responses."""
        with httpx.Client(base_url=self.url, **{"verify": self.verify, "timeout": LIMIT_S, **options}) as client:
            yield client

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal, as an orchestrator does, or to the whole group, as a terminal does."""
        (os.killpg if group else os.kill)(self.process.pid, number)

    def wait(self) -> int:
        """Wait for the end, and give the exit code."""
        try:
            return self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it has not ended within {LIMIT_S} s:\n{self.log}") from None

    def kill(self) -> None:
        """Kill -9 everything that is still there."""
        if self.process.poll() is None:
            workers = self.workers
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(LIMIT_S)
            wait_until(lambda: all(map(has_ended, workers)))  # until then they have their files and ports

    def _address(self) -> str:
        for line in self.log.splitlines():
            if LISTENING in line:
                return str(json.loads(line)["message"]).removeprefix(LISTENING)
        return ""


def has_ended(process: psutil.Process) -> bool:
    """Whether nothing is left of a process but, where nobody asks for it, its exit code.

    A process is a zombie as soon as its first thread has ended, and keeps its files until the last one has.
    """
    try:
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
    except psutil.NoSuchProcess:
        return True
