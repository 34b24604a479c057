"""The driver wrk: one thread, which leaves most of the processor to the contestant."""

from itertools import chain
from pathlib import Path

import msgspec
from msgspec import Struct

from bench.client import Target
from bench.drivers.driver import GRACE_SECONDS, RESPONSE_SECONDS_MAX, Crowd, Load
from bench.processes import HOST, Command, finish
from bench.workloads import Workload

SCRIPTS = Path(__file__).parent / "lua"


class Report(Struct, frozen=True):
    """The line that lua/report.lua writes."""

    responses: int
    failures: int
    breaks: int
    duration_us: int
    p50_us: float
    p99_us: float


class Wrk:
    """Sends the requests of the workload's Lua script."""

    def __init__(self, program: str) -> None:
        self._program = program
        # `wrk -v` exits with 1 and prints its usage too; the first two words are name and version.
        self.version = " ".join(finish(Command([program, "-v"]), must_succeed=False).split()[:2])

    def drive(self, workload: Workload, target: Target, crowd: Crowd) -> Load:
        """Run wrk once; raises ProcessError when it fails."""
        options = {
            "--threads": "1",
            "--connections": str(crowd.connections),
            "--duration": f"{crowd.seconds}s",
            "--timeout": f"{RESPONSE_SECONDS_MAX}s",
            "--script": str(SCRIPTS / f"{workload.script}.lua"),
        }
        headers = chain.from_iterable(("--header", f"{name}: {value}") for name, value in target.headers.items())
        arguments = (f"http://{HOST}:{target.port}", "--", str(crowd.rows), workload.path, str(crowd.seed))
        line = [self._program, *chain.from_iterable(options.items()), *headers, *arguments]
        command = Command(line, {"LUA_PATH": f"{SCRIPTS}/?.lua"})
        printed = finish(command, seconds_max=crowd.seconds + GRACE_SECONDS)
        report = msgspec.json.decode(printed.strip().splitlines()[-1], type=Report)
        return Load(
            responses=report.responses,
            failures=report.failures,
            breaks=report.breaks,
            seconds=report.duration_us / 1e6,
            p50_ms=report.p50_us / 1e3,
            p99_ms=report.p99_us / 1e3,
        )
