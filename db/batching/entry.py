"""The entries of a queue: calls that were deduplicated, and who waits for them."""

import asyncio
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

from db.errors import DatabaseError

Caller = int | None  # the user who calls; None: nobody was asked, or the service itself

M = TypeVar("M", bound=Hashable)
R = TypeVar("R")
T = TypeVar("T")


class Entry(Generic[M, R]):
    """One member of a batch, and the waiters that share its result: several if equal calls were deduplicated."""

    __slots__ = ("callers", "is_queued", "member", "queued_at", "retries", "waiters", "waits_since")

    def __init__(self, member: M, waiter: "asyncio.Future[R]", queued_at: float, caller: Caller) -> None:
        self.member = member
        self.waiters = [waiter]
        self.callers = [caller]  # of the waiters, in their order
        self.queued_at = self.waits_since = queued_at  # the latter for its next run, if it has had one
        self.is_queued = True
        self.retries = 0

    def resolve(self, result: R | BaseException) -> None:
        """Set the result, or the exception, of every waiter that is not done yet."""
        for waiter in self.waiters:
            if waiter.done():
                continue
            if isinstance(result, BaseException):
                waiter.set_exception(result)
            else:
                waiter.set_result(result)

    @property
    def is_cancelled(self) -> bool:
        """Whether every waiter is done: cancelled, or past its deadline."""
        return all(map(asyncio.Future.done, self.waiters))


def expire(entries: Iterable[Entry[M, R]], queued_until: float, error: DatabaseError) -> None:
    """Resolve with an error the entries that were queued no later than at this time of the loop's clock."""
    for entry in entries:
        if entry.queued_at <= queued_until:
            entry.resolve(error)


def wait_again(entries: Iterable[Entry[M, R]], since: float) -> None:
    """Note since when entries, which were run, wait for their next run."""
    for entry in entries:
        entry.waits_since = since


def in_turn(queues: Iterable[tuple[Caller, Iterable[T]]]) -> Iterator[tuple[Caller, T]]:
    """Yield what the callers have queued, one of each in turn, with its caller."""
    turns = deque((caller, iter(queue)) for caller, queue in queues)
    while turns:
        caller, queue = turn = turns.popleft()
        for one in queue:
            turns.append(turn)
            yield caller, one
            break
