"""What writers have seen."""

import time
from array import array
from collections import Counter
from typing import Any, NamedTuple

Figures = dict[str, Any]  # what was counted and measured, for people; a broken promise is an AssertionError


class Report(NamedTuple):
    """Counts and times, in seconds; latencies are those of single attempts that had a response."""

    outcomes: dict[str, int]  # of writes: acknowledged, refused, unknown
    responses: dict[str, int]  # by status, and code where there is one, repeats included; and what had no response
    latency_p50_s: float
    latency_p99_s: float
    latency_max_s: float
    unanswered_max_s: float  # the longest that any attempt had no response, whether it got one, failed, or still waits
    gap_max_s: float  # the longest without any acknowledgement

    @property
    def acknowledged(self) -> int:
        """How many writes are promised to be there."""
        return self.outcomes.get("acknowledged", 0)


class Record:
    """Everything that a report is made of; written in one thread, read in any."""

    def __init__(self) -> None:
        self._outcomes: Counter[str] = Counter()
        self._responses: Counter[str] = Counter()
        self._latencies = array("d")
        self._waiting: dict[int, float] = {}
        self._unanswered_max_s = self._gap_max_s = 0.0
        self._acknowledged_at = time.monotonic()

    def begin(self, writer: int) -> None:
        """Note that a writer sends something."""
        self._waiting[writer] = time.monotonic()

    def end(self, writer: int, response: str, *, answered: bool) -> None:
        """Note that it has a response, or gives up."""
        took_s = time.monotonic() - self._waiting.pop(writer)
        self._responses[response] += 1
        self._unanswered_max_s = max(self._unanswered_max_s, took_s)
        if answered:
            self._latencies.append(took_s)

    def outcome(self, result: str) -> None:
        """Note what became of a write."""
        self._outcomes[result] += 1
        if result == "acknowledged":
            now = time.monotonic()
            self._gap_max_s = max(self._gap_max_s, now - self._acknowledged_at)
            self._acknowledged_at = now

    @property
    def acknowledged(self) -> int:
        """How many writes were acknowledged so far."""
        return self._outcomes["acknowledged"]

    def report(self) -> Report:
        """Sum up."""
        now = time.monotonic()
        latencies = sorted(self._latencies) or [0.0]
        waits = [now - since for since in list(self._waiting.values())]
        return Report(
            dict(self._outcomes),
            dict(self._responses),
            latencies[len(latencies) // 2],
            latencies[len(latencies) * 99 // 100],
            latencies[-1],
            max(self._unanswered_max_s, *waits, 0.0),
            self._gap_max_s,
        )
