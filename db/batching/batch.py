"""A batch, the function that runs it, and the token that marks its runs as one and the same write."""

from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from itertools import count
from operator import methodcaller
from secrets import randbits
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from db.batching.entry import Entry
from db.errors import DatabaseError, OutcomeUnknown, SerializationFailure, StatementFailed, Unavailable

if TYPE_CHECKING:  # it imports this module
    from db.batching.batcher import Batcher

C = TypeVar("C", bound="ClosableConnection")
M = TypeVar("M", bound=Hashable)
R = TypeVar("R")

TOKEN_BYTES = 16
NO_TOKEN = bytes(TOKEN_BYTES)  # of an idempotent batch, which may run twice
STOPPING = "the service is stopping"


class ClosableConnection(Protocol):
    """The part of a connection that a batcher needs."""

    @property
    def closed(self) -> bool:
        """Whether the connection is lost."""

    def add_close_callback(self, callback: Callable[[], None]) -> None:
        """Call `callback`, maybe more than once, when the connection is lost, or is not to be used any more."""


# Runs a batch: returns a result, or an exception, for each member in order. Runs with one token are the same write.
RunBatch = Callable[[C, Sequence[M], bytes], Awaitable[Sequence[R | BaseException]]]


class Batch(Generic[C, M, R]):
    """Entries that were taken from the queue of a batcher to run together, and are not resolved yet."""

    __slots__ = ("batcher", "conflict_retries", "entries", "maybe_committed", "token", "tries_lost")

    def __init__(
        self, batcher: "Batcher[C, M, R]", entries: list[Entry[M, R]], token: bytes, conflict_retries: int = 0
    ) -> None:
        self.batcher = batcher
        self.entries = entries
        self.token = token
        self.conflict_retries = conflict_retries  # runs repeated because another transaction conflicted
        self.tries_lost = 0  # runs that ended without a result, most with their connection
        self.maybe_committed = False  # whether a run may have been committed

    def resolve(self, results: Sequence[R | BaseException], *, retry: bool) -> list[Entry[M, R]]:
        """Resolve each entry with its own result, or all with RuntimeError if the numbers differ.

        To `retry`, leave out the entries whose result is a conflict with another transaction, and return them.
        """
        if len(results) != len(self.entries):  # which result belongs to which entry is unknown
            wrong = f"batcher {self.batcher.name}: {len(results)} results for {len(self.entries)} members"
            results = [RuntimeError(wrong)] * len(self.entries)
        conflicts = []
        for entry, result in zip(self.entries, results, strict=True):
            if retry and isinstance(result, SerializationFailure) and not entry.is_cancelled:
                conflicts.append(entry)
            else:
                entry.resolve(result)
        return conflicts

    def fail(self, error: Exception) -> None:
        """Resolve every entry with an error."""
        for entry in self.entries:
            entry.resolve(error)

    def abort(self) -> None:
        """Resolve every entry because the service stops; the outcome of a write may then be unknown."""
        self.fail((OutcomeUnknown if self.maybe_committed else Unavailable)(STOPPING))

    def halves(self, tokens: Iterator[bytes]) -> "list[Batch[C, M, R]]":
        """Return the first half and the second, each as a batch with a token of its own."""
        middle = len(self.entries) // 2
        return [Batch(self.batcher, half, next(tokens)) for half in (self.entries[:middle], self.entries[middle:])]

    def is_ambiguous_after(self, error: Exception) -> bool:
        """Return whether it is unknown, also after `error`, if a write was committed."""
        # A statement that was refused as such, such as after a REVOKE, does not show what became of the one before it.
        return self.maybe_committed and (not isinstance(error, DatabaseError) or isinstance(error, StatementFailed))

    @property
    def is_cancelled(self) -> bool:
        """Whether every waiter of every entry is done."""
        return all(entry.is_cancelled for entry in self.entries)


def tokens() -> Iterator[bytes]:
    """Return an iterator over tokens of TOKEN_BYTES bytes, unique across processes, in ascending order.

    An index takes ascending keys best.
    """
    return map(methodcaller("to_bytes", TOKEN_BYTES, "big"), count(randbits(64) << 64))
