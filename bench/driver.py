"""Who makes the load: a driver sends one workload over so many connections for so many seconds."""

import shutil
from itertools import chain
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from bench.processes import HOST, Command, ProcessError, finish
from bench.workloads import Workload

SCRIPTS = Path(__file__).parent / "wrk"
ANSWER_SECONDS_MAX = 10
GRACE_SECONDS = 30


class Load(Struct, frozen=True):
    """What a driver saw: answers of any status, those of 400 and above, broken connections with timeouts."""

    answers: int
    failures: int
    breaks: int
    seconds: float
    p50_ms: float
    p99_ms: float


class Driver(Protocol):
    """Anything that can make load."""

    version: str

    def drive(self, workload: Workload, port: int, *, connections: int, seconds: int, rows: int) -> Load:
        """Ask as fast as answers come, on every connection, for that long."""


class WrkReport(Struct, frozen=True):
    """The line that bench/wrk/report.lua writes."""

    answers: int
    failures: int
    breaks: int
    duration_us: int
    p50_us: float
    p99_us: float


class Wrk:
    """The driver wrk: one thread, which leaves most of the processor to the contestant."""

    def __init__(self, program: str) -> None:
        self._program = program
        # `wrk -v` exits with 1 and prints its usage too; the first two words are name and version.
        self.version = " ".join(finish(Command([program, "-v"]), must_succeed=False).split()[:2])

    def drive(self, workload: Workload, port: int, *, connections: int, seconds: int, rows: int) -> Load:
        """Run wrk once; raises ProcessError when it fails."""
        options = {
            "--threads": "1",
            "--connections": str(connections),
            "--duration": f"{seconds}s",
            "--timeout": f"{ANSWER_SECONDS_MAX}s",
            "--script": str(SCRIPTS / workload.script),
        }
        line = [self._program, *chain.from_iterable(options.items()), f"http://{HOST}:{port}", "--", str(rows)]
        command = Command(line, {"LUA_PATH": f"{SCRIPTS}/?.lua"})
        printed = finish(command, seconds_max=seconds + GRACE_SECONDS)
        report = msgspec.json.decode(printed.strip().splitlines()[-1], type=WrkReport)
        return Load(
            answers=report.answers,
            failures=report.failures,
            breaks=report.breaks,
            seconds=report.duration_us / 1e6,
            p50_ms=report.p50_us / 1e3,
            p99_ms=report.p99_us / 1e3,
        )


def find_driver() -> Driver:
    """Choose a driver that this machine has; raises ProcessError when there is none."""
    program = shutil.which("wrk")
    if program is None:
        raise ProcessError("wrk is needed to make the load (for example: apt install wrk, or brew install wrk)")
    return Wrk(program)
