"""The driver locust, for machines without wrk; it uses far more of the processor, and counts in milliseconds."""

import sys
from collections import Counter
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import msgspec
from msgspec import Struct

from bench.client import Target
from bench.drivers.driver import GRACE_SECONDS, Crowd, Load
from bench.processes import HOST, Command, ProcessError, finish
from bench.workloads import Workload

# Importing locust would replace Python's own sockets, so its file is only named here, and speaks the same names.
LOCUSTFILE = Path(__file__).with_name("questions.py")


class Statistics(Struct, frozen=True):
    """What locust reports of one kind of request, among much else."""

    num_requests: int
    num_failures: int
    start_time: float
    last_request_timestamp: float | None
    response_times: dict[str, int]
    """How many responses took so many milliseconds."""


class Locust:
    """Runs as many users as there are connections, in one process."""

    version = f"locust {version('locust')}"

    def drive(self, workload: Workload, target: Target, crowd: Crowd) -> Load:
        """Run locust once; raises ProcessError when it fails."""
        options = {
            "--locustfile": str(LOCUSTFILE),
            "--host": f"http://{HOST}:{target.port}",
            "--users": str(crowd.connections),
            "--spawn-rate": str(crowd.connections),
        }
        # --run-time counts from before the users are there, which on a busy machine takes a good part of it: the file
        # ends the run itself, so many seconds after the last of them has come and the figures were reset.
        flags = ("--headless", "--json", "--skip-log", "--reset-stats", "--exit-code-on-error", "0")
        line = [sys.executable, "-m", "locust", *chain.from_iterable(options.items()), *flags]
        settings = {"BENCH_SCRIPT": workload.script, "BENCH_ROWS": str(crowd.rows), "BENCH_PATH": workload.path}
        settings["BENCH_SEED"] = str(crowd.seed)
        settings |= {"BENCH_SECONDS": str(crowd.seconds), "BENCH_HEADERS": msgspec.json.encode(target.headers).decode()}
        printed = finish(Command(line, settings), seconds_max=crowd.seconds + GRACE_SECONDS)
        # What stands before the list are complaints about the machine's limits.
        return _load(msgspec.json.decode(printed[f"\n{printed}".index("\n[") :], type=list[Statistics]))


def _load(kinds: list[Statistics]) -> Load:
    if not kinds:
        raise ProcessError("locust asked nothing")
    times: Counter[int] = Counter()
    for kind in kinds:
        times.update({int(milliseconds): count for milliseconds, count in kind.response_times.items()})
    ended = max(kind.last_request_timestamp or kind.start_time for kind in kinds)
    return Load(
        responses=sum(kind.num_requests for kind in kinds),
        failures=sum(kind.num_failures for kind in kinds),
        breaks=0,
        seconds=ended - min(kind.start_time for kind in kinds),
        p50_ms=_percentile(times, 0.5),
        p99_ms=_percentile(times, 0.99),
    )


def _percentile(times: Counter[int], share: float) -> float:
    wanted, seen = share * times.total(), 0
    for milliseconds in sorted(times):
        seen += times[milliseconds]
        if seen >= wanted:
            return milliseconds
    return 0.0
