"""What the sets of connections of a worker do together: log an outage once, and share what the database allows."""

import logging
from collections.abc import Callable, MutableSequence

from db.errors import DatabaseError

log = logging.getLogger(__name__)

# Of the integers in the memory that the workers of a service share: whether an outage was logged, by any of them.
LOGGED = 2
SHARED_INTEGERS = 3


class ConnectionSets:
    """The sets of one worker. An outage is logged once for all of them, and for all workers that share memory."""

    def __init__(self, shared: MutableSequence[int] | None = None) -> None:
        self._shared = [0] * SHARED_INTEGERS if shared is None else shared
        self._give_back: list[Callable[[], bool]] = []  # of each set
        self._failing: set[str] = set()
        self._is_short = False

    def add(self, give_back: Callable[[], bool]) -> None:
        """Add a set, by the function that closes one of its connections if it can spare one, and returns whether."""
        self._give_back.append(give_back)

    def give_back(self) -> bool:
        """Have a set close a connection, so that another one can be opened; return whether one can be spared."""
        return any(give_back() for give_back in self._give_back)

    def begin_outage(self, name: str, error: DatabaseError) -> None:
        """Note that a set has no connection."""
        self._failing.add(name)
        if not self._shared[LOGGED]:
            self._shared[LOGGED] = 1
            log.warning("the database cannot be used: %s", error)

    def end_outage(self, name: str) -> None:
        """Note that a set has a connection, again or for the first time."""
        self._failing.discard(name)
        if self._shared[LOGGED] and not self._failing:
            self._shared[LOGGED] = 0
            log.warning("the database can be used again")

    def note_shortage(self, error: DatabaseError) -> None:
        """Note that the database allows fewer connections than this worker would hold, which is logged once."""
        if not self._is_short:
            self._is_short = True
            log.warning("fewer connections than a worker holds, of which `check` prints the number: %s", error)
