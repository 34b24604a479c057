"""What a contest leaves behind: every single measurement, and under which circumstances it was made."""

import os
import platform
import tempfile
from collections.abc import Iterable
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import psutil
from msgspec import Struct

from bench.drivers.driver import Load

PACKAGES = (
    *("granian", "uvloop", "msgspec", "starlette", "sqlalchemy", "asyncpg", "aiosqlite"),
    *("blacksheep", "fastapi", "pydantic", "litestar", "faster-api-web", "responder"),
)


class Part(Struct, frozen=True, kw_only=True):
    """What is measured on one database."""

    database: str
    workers: int
    """Processes of each contestant."""
    contestants: list[str]
    cells: dict[str, list[int]]
    """For each workload, how many connections ask at once."""


class Plan(Struct, frozen=True, kw_only=True):
    """What was asked for."""

    parts: list[Part]
    rounds: int
    duration_seconds: int
    warm_up_seconds: int
    rows: int


class Start(Struct, frozen=True, kw_only=True):
    """A contestant that has just been started; memory is that of all its processes, at rest."""

    database: str
    contestant: str
    ready_seconds: float
    pss_bytes: int = 0


class Sample(Struct, frozen=True, kw_only=True):
    """One measurement; processor time is that of the contestant and its database together, memory its own."""

    database: str
    round: int
    contestant: str
    workload: str
    connections: int
    load: Load
    lost_writes: int
    """Writes that were acknowledged and are not in the table."""
    cpu_seconds: float
    pss_bytes: int = 0

    @property
    def requests_per_second(self) -> float:
        """Good responses only."""
        return (self.load.responses - self.load.failures) / self.load.seconds

    @property
    def cpu_us_per_request(self) -> float:
        """Processor time for each response."""
        return self.cpu_seconds * 1e6 / max(1, self.load.responses)

    @property
    def errors(self) -> int:
        """Everything that should not have happened."""
        return self.load.failures + self.load.breaks + self.lost_writes


class Run(Struct, frozen=True, kw_only=True):
    """One contest."""

    started: datetime
    plan: Plan
    machine: dict[str, str]
    versions: dict[str, str]
    starts: list[Start] = []
    samples: list[Sample] = []


class Point(Struct, frozen=True, kw_only=True):
    """What a question costs on a table of so many rows, or the first time after a start."""

    rows: int
    sample: Sample
    cold: bool = False


class Growth(Struct, frozen=True, kw_only=True):
    """How the cost of this service's responses grows with its rows."""

    started: datetime
    rounds: int
    duration_seconds: int
    machine: dict[str, str]
    versions: dict[str, str]
    points: list[Point] = []


def write(file: Path, record: Struct) -> None:
    """Keep a record, as JSON that can be read by a person too."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")


def machine() -> dict[str, str]:
    """Describe this machine."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
        "load average before": f"{os.getloadavg()[0]:.1f}",
        "file system": _file_system(Path(tempfile.gettempdir())),
    }


def versions(*described: str) -> dict[str, str]:
    """List what took part, and which version of it; what is described is a name and a version."""
    packages = {name: _version(name) for name in PACKAGES}
    return {"Python": platform.python_version(), **named(described), **packages}


def named(described: Iterable[str]) -> dict[str, str]:
    """Take names and versions apart: the last word is the version."""
    return {name: version for name, _, version in (text.rpartition(" ") for text in described)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return _first(models, otherwise=platform.machine())


def _file_system(folder: Path) -> str:
    mounts = [mount for mount in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(mount.mountpoint)]
    mounts.sort(key=lambda mount: len(mount.mountpoint), reverse=True)
    return _first((mount.fstype for mount in mounts), otherwise="unknown")


def _first(candidates: Iterable[str], *, otherwise: str) -> str:
    return next(iter(candidates), otherwise)
