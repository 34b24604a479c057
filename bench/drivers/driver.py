"""What every driver does, and what it reports."""

from typing import Protocol

from msgspec import Struct

from bench.client import Target
from bench.workloads import Workload

RESPONSE_SECONDS_MAX = 10
GRACE_SECONDS = 30


class Crowd(Struct, frozen=True, kw_only=True):
    """How many ask at once, for how long, and about a table of how many rows."""

    connections: int
    seconds: int
    rows: int
    seed: int = 1
    """What is drawn at random is the same for everyone with the same seed."""


class Load(Struct, frozen=True):
    """What a driver saw: responses of any status, those of 400 and above, broken connections with timeouts."""

    responses: int
    failures: int
    breaks: int
    seconds: float
    p50_ms: float
    p99_ms: float


class Driver(Protocol):
    """Anything that can make load."""

    @property
    def version(self) -> str:
        """Its name and its version."""

    def drive(self, workload: Workload, target: Target, crowd: Crowd) -> Load:
        """Ask as fast as responses come, on every connection, for that long; raises ProcessError."""
