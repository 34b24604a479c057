"""The driver pgbench: no HTTP at all, each connection runs the workload's own single statement, prepared."""

from itertools import chain
from pathlib import Path
from statistics import quantiles

from bench.client import Target
from bench.drivers.driver import GRACE_SECONDS, Crowd, Load
from bench.postgres import SUPERUSER
from bench.processes import HOST, Command, ProcessError, finish, temporary_folder
from bench.workloads import Workload

SCRIPTS = Path(__file__).parent / "sql"
# Every twentieth transaction's time is enough for percentiles, and writing it costs the others nothing.
SAMPLING_RATE = "0.05"
# Its clock starts before the connections are there, each of them a process; its rate leaves that time out.
CONNECTIONS_EACH_SECOND = 100
RATE = "tps = "
PROCESSED = "number of transactions actually processed: "
FAILED = "number of failed transactions: "


class PgBench:
    """Asks the database what the service asks it for a batch of one."""

    def __init__(self, binaries: Path) -> None:
        self._program = binaries / "pgbench"
        self.version = finish(Command([self._program, "--version"])).strip()

    def drive(self, workload: Workload, target: Target, crowd: Crowd) -> Load:
        """Run pgbench once; raises ProcessError when it fails."""
        with temporary_folder() as folder:
            options = {
                "--protocol": "prepared",
                "--jobs": "1",
                "--client": str(crowd.connections),
                "--time": str(crowd.seconds + crowd.connections // CONNECTIONS_EACH_SECOND),
                "--file": str(SCRIPTS / f"{workload.script}.sql"),
                "--define": f"rows={crowd.rows}",
                "--random-seed": str(crowd.seed),
                "--sampling-rate": SAMPLING_RATE,
                "--log-prefix": f"{folder}/transactions",
                "--host": HOST,
                "--port": str(target.port),
                "--username": SUPERUSER,
            }
            line: list[str | Path] = [
                self._program,
                "--no-vacuum",
                "--log",
                *chain.from_iterable(options.items()),
                "postgres",
            ]
            printed = finish(Command(line), seconds_max=crowd.seconds + GRACE_SECONDS)
            processed = _number(printed, PROCESSED)
            logs = "".join(log.read_text() for log in folder.iterdir())
        percentiles = quantiles(_latencies_ms(logs), n=100, method="inclusive")
        return Load(
            responses=int(processed),
            failures=int(_number(printed, FAILED)),
            breaks=0,
            seconds=processed / _number(printed, RATE),
            p50_ms=percentiles[49],
            p99_ms=percentiles[98],
        )


def _latencies_ms(logs: str) -> list[float]:
    # Of each line the third word is the transaction's time in microseconds.
    latencies = [int(line.split()[2]) / 1e3 for line in logs.splitlines()]
    if not latencies:
        raise ProcessError("pgbench ran no transaction")
    return [*latencies, latencies[-1]]  # a percentile takes two at least


def _number(printed: str, title: str) -> float:
    words = printed.partition(title)[2].split()
    if not words:
        raise ProcessError(f"pgbench printed no {title.rstrip(': ')}:\n{printed}")
    return float(words[0])
