"""Sets that are on their way: how they are run, and the tokens by which they are known again."""

from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from itertools import count
from operator import methodcaller
from secrets import randbits
from typing import Generic, Protocol, TypeVar

from db.errors import DatabaseError
from db.queues import Group

M = TypeVar("M", bound=Hashable)
R = TypeVar("R")

C_contra = TypeVar("C_contra", bound="Connection", contravariant=True)
M_contra = TypeVar("M_contra", bound=Hashable, contravariant=True)
R_co = TypeVar("R_co", covariant=True)

TOKEN_BYTES = 16
NO_TOKEN = bytes(TOKEN_BYTES)


class Connection(Protocol):
    """What a lane must know of a connection."""

    @property
    def closed(self) -> bool:
        """Whether the connection is lost."""

    def when_closed(self, callback: Callable[[], None]) -> None:
        """Call back, maybe more than once, when the connection is lost, or is not to be used any more."""


class Run(Protocol[C_contra, M_contra, R_co]):
    """How a set is run: a result, or an exception, for each member; the same token is the same write."""

    def __call__(
        self, connection: C_contra, members: Sequence[M_contra], token: bytes, /
    ) -> "Awaitable[Sequence[R_co | BaseException]]":
        """Run a set."""


class Attempt(Generic[M, R]):
    """A set that left the queue, and is not answered yet."""

    __slots__ = ("contended", "doubtful", "groups", "lost", "token")

    def __init__(self, groups: list[Group[M, R]], token: bytes) -> None:
        self.groups = groups
        self.token = token
        self.contended = 0  # how often others were in the way
        self.lost = 0  # how often its connection was
        self.doubtful = False  # whether it may have happened

    def answer(self, fault: Exception) -> None:
        """Tell everyone that it failed."""
        for group in self.groups:
            group.answer(fault)

    def puzzled_by(self, error: Exception) -> bool:
        """Whether an error leaves open what became of a write that may have happened before it."""
        return self.doubtful and not isinstance(error, DatabaseError)

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits any more."""
        return all(group.abandoned for group in self.groups)


def tokens() -> Iterator[bytes]:
    """Give tokens that nobody else has, in ascending order: an index takes those best."""
    return map(methodcaller("to_bytes", TOKEN_BYTES, "big"), count(randbits(64) << 64))
