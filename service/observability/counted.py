"""Warnings that a client can cause at will: counted, and logged now and then; a line for each costs too much."""

import logging
from time import monotonic

INTERVAL_S = 1.0


class CountedWarning:
    """A warning that is logged at most once in INTERVAL_S, with how often it was due since the last time."""

    def __init__(self, log: logging.Logger, message: str, counter: str) -> None:
        self._log, self._message, self._counter = log, message, counter
        self._count = 0
        self._logged_at = -INTERVAL_S

    def add(self, count: int = 1, /, **fields: object) -> None:
        """Count one, or several; the fields of the last one are logged."""
        self._count += count
        now = monotonic()
        if now >= self._logged_at + INTERVAL_S:
            self._log.warning(self._message, extra={self._counter: self._count, **fields})
            self._count, self._logged_at = 0, now
