"""Batches that are on their way: how they are run, and the tokens by which they are known again."""

from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from itertools import count
from operator import methodcaller
from secrets import randbits
from typing import Generic, Protocol, TypeVar

from db.batching.queue import Entry
from db.errors import DatabaseError

M = TypeVar("M", bound=Hashable)
R = TypeVar("R")

C_contra = TypeVar("C_contra", bound="Connection", contravariant=True)
M_contra = TypeVar("M_contra", bound=Hashable, contravariant=True)
R_co = TypeVar("R_co", covariant=True)

TOKEN_BYTES = 16
NO_TOKEN = bytes(TOKEN_BYTES)


class Connection(Protocol):
    """What a batcher must know of a connection."""

    @property
    def closed(self) -> bool:
        """Whether the connection is lost."""

    def add_close_callback(self, callback: Callable[[], None]) -> None:
        """Call back, maybe more than once, when the connection is lost, or is not to be used any more."""


class Run(Protocol[C_contra, M_contra, R_co]):
    """How a batch is run: a result, or an exception, for each member; the same token is the same write."""

    def __call__(
        self, connection: C_contra, members: Sequence[M_contra], token: bytes, /
    ) -> "Awaitable[Sequence[R_co | BaseException]]":
        """Run a batch."""


class Batch(Generic[M, R]):
    """A batch that left the queue, and is not answered yet."""

    __slots__ = ("conflict_retries", "entries", "lost", "maybe_committed", "token")

    def __init__(self, entries: list[Entry[M, R]], token: bytes) -> None:
        self.entries = entries
        self.token = token
        self.conflict_retries = 0  # how often others were in the way
        self.lost = 0  # how often its connection was
        self.maybe_committed = False  # whether it may have happened

    def answer(self, fault: Exception) -> None:
        """Tell everyone that it failed."""
        for entry in self.entries:
            entry.answer(fault)

    def is_ambiguous_after(self, error: Exception) -> bool:
        """Whether an error leaves open what became of a write that may have happened before it."""
        return self.maybe_committed and not isinstance(error, DatabaseError)

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody waits any more."""
        return all(entry.is_cancelled for entry in self.entries)


def tokens() -> Iterator[bytes]:
    """Return tokens that nobody else has, in ascending order: an index takes those best."""
    return map(methodcaller("to_bytes", TOKEN_BYTES, "big"), count(randbits(64) << 64))
