"""The log of an outage: one line when no connection can be had, and one when there is one again."""

import logging
from collections.abc import MutableSequence

from db.errors import DatabaseError

log = logging.getLogger(__name__)

# Of the integers in the memory that the workers of a service share: whether an outage was logged, by any of them.
LOGGED = 2
SHARED_INTEGERS = 3


class OutageLog:
    """Logs an outage once for all sets of connections, and for all workers of a service that share memory."""

    def __init__(self, shared: MutableSequence[int] | None = None) -> None:
        self._shared = [0] * SHARED_INTEGERS if shared is None else shared
        self._failing: set[str] = set()

    def begin(self, name: str, error: DatabaseError) -> None:
        """Note that a set has no connection."""
        self._failing.add(name)
        if not self._shared[LOGGED]:
            self._shared[LOGGED] = 1
            log.warning("the database cannot be used: %s", error)

    def end(self, name: str) -> None:
        """Note that a set has a connection, again or for the first time."""
        self._failing.discard(name)
        if self._shared[LOGGED] and not self._failing:
            self._shared[LOGGED] = 0
            log.warning("the database can be used again")
