"""What the sets of connections of all workers do together: log an outage once, and share what the database allows."""

import asyncio
import logging
from collections.abc import Callable, Iterator, MutableSequence
from contextlib import contextmanager

from db.errors import DatabaseError

log = logging.getLogger(__name__)

# Of the integers in the memory that the workers of a service share: whether an outage was logged, by any of them; and
# how often a worker has asked the others for a connection, where it does not matter if one of two is not counted.
LOGGED, ASKED = 2, 3
SHARED_INTEGERS = 4
ANSWER_INTERVAL_S = 0.2


class ConnectionSets:
    """The sets of one worker. An outage is logged once for all of them, and for all workers that share memory."""

    def __init__(self, shared: MutableSequence[int] | None = None) -> None:
        self._shared = [0] * SHARED_INTEGERS if shared is None else shared
        self._sets: list[Callable[[], bool]] = []  # that give a connection back
        self._failing: set[str] = set()
        self._is_short = False
        self._answered = 0  # the number of requests that this worker has seen

    def add(self, give_back: Callable[[], bool]) -> None:
        """Add a set, by the function that closes one of its connections if it can spare one, and returns whether."""
        self._sets.append(give_back)

    def request(self) -> bool:
        """Have a set close a connection, for one that has none; without one to spare, ask the other workers.

        Return whether one of this worker's is closed.
        """
        if self._give_back():
            return True
        self._shared[ASKED] = self._answered = (self._shared[ASKED] + 1) % 2**32
        return False

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Have a set close a connection whenever another worker asks for one, within the block."""
        self._answered = self._shared[ASKED]
        self._answer()
        try:
            yield
        finally:
            self._timer.cancel()

    def _answer(self) -> None:
        if self._shared[ASKED] != self._answered:
            self._answered = self._shared[ASKED]
            self._give_back()
        self._timer = asyncio.get_running_loop().call_later(ANSWER_INTERVAL_S, self._answer)

    def _give_back(self) -> bool:
        return any(give_back() for give_back in self._sets)

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
