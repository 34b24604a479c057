"""Processes that the benchmark starts: what they cost, and how they end."""

import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

import psutil

ROOT = Path(__file__).parent.parent
HOST = "127.0.0.1"
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 10.0
COMMAND_SECONDS_MAX = 120.0
POLL_SECONDS = 0.02
LOG_LINES_SHOWN = 15


class ProcessError(Exception):
    """A process that was needed failed, or was not ready in time."""


class Identity(TypedDict, total=False):
    """As whom a process runs; empty for ourselves."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Command:
    """A command line, what it finds in its environment beside ours, where it runs, and as whom."""

    line: Sequence[str | Path]
    settings: Mapping[str, str] = field(default_factory=dict)
    folder: Path = ROOT
    runs_as: Identity = field(default_factory=Identity)

    def __str__(self) -> str:
        return " ".join([Path(self.line[0]).name, *map(str, self.line[1:4])])


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that is gone when the block is left."""
    with TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def free_port() -> int:
    """Find a TCP port that nobody listens on."""
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def identity(user: str) -> Identity:
    """Look up a user of this machine by name."""
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def finish(command: Command, *, seconds_max: float = COMMAND_SECONDS_MAX, must_succeed: bool = True) -> str:
    """Run a command to its end and return what it printed; raises ProcessError when it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - every command line is ours
            command.line,
            cwd=command.folder,
            env=_environment(command.settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            timeout=seconds_max,
            text=True,
            check=must_succeed,
            **command.runs_as,
        )
    except subprocess.CalledProcessError as error:
        raise ProcessError(f"{command} failed:\n{_tail(error.stdout)}") from None
    except subprocess.TimeoutExpired:
        raise ProcessError(f"{command} did not end within {seconds_max:.0f} s") from None
    return done.stdout


@contextmanager
def running(
    command: Command, *, ready: Callable[[], bool], log: Path, stop: signal.Signals = signal.SIGTERM
) -> Iterator[psutil.Process]:
    """Keep a server running inside the block, entered once `ready()` holds; its own session keeps Ctrl-C from it."""
    with log.open("wb") as output:
        child = subprocess.Popen(  # noqa: S603 - every command line is ours
            command.line,
            cwd=command.folder,
            env=_environment(command.settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **command.runs_as,
        )
    try:
        _wait_until(ready, child, f"{command} is not ready", log)
        yield psutil.Process(child.pid)
    finally:
        _end(child, stop)


def cpu_seconds(roots: Sequence[psutil.Process]) -> float:
    """Processor time that these process trees have used, children that ended included."""
    total = 0.0
    for process in _trees(roots):
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue  # it ended just now: its parent has the time
    return total


def pss_bytes(roots: Sequence[psutil.Process]) -> int:
    """Memory of these process trees: what processes share counts once (PSS; outside of Linux, what each has alone)."""
    total = 0
    for process in _trees(roots):
        try:
            memory = process.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        total += getattr(memory, "pss", memory.uss)
    return total


def _trees(roots: Sequence[psutil.Process]) -> list[psutil.Process]:
    return [process for root in roots for process in (*root.children(recursive=True), root)]


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    # What the user's shell sets for the service or for granian must not favour one contestant.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ITEMSVC_", "GRANIAN_"))}
    return {**inherited, **extra}


def _wait_until(ready: Callable[[], bool], child: subprocess.Popen[bytes], complaint: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while not ready():
        if child.poll() is not None or time.monotonic() > deadline:
            raise ProcessError(f"{complaint} (exit code {child.poll()}):\n{_tail(log.read_text(errors='replace'))}")
        time.sleep(POLL_SECONDS)


def _end(child: subprocess.Popen[bytes], stop: signal.Signals) -> None:
    members = _trees([psutil.Process(child.pid)]) if child.poll() is None else []
    if members:
        child.send_signal(stop)
    psutil.wait_procs(members, timeout=STOP_SECONDS_MAX)
    # Whoever still runs: the group is that of the session this child was started in, so all of it is ours.
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-LOG_LINES_SHOWN:])
