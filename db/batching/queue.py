"""The queue of a batcher: its bounds, its entries, and which of them form the next batch."""

import asyncio
from collections.abc import Callable, Collection, Hashable, Iterable
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from db.batching.wait_estimator import WaitEstimator
from db.errors import DatabaseError, Overloaded, TimedOut

M = TypeVar("M", bound=Hashable)
R = TypeVar("R")


class Limits(NamedTuple):
    """The bounds of a batcher; a call that would exceed one of the queue's is refused at once."""

    batch_size_max: int = 256  # members
    queue_length_max: int = 4096  # waiters
    queue_wait_ms_max: int = 1000  # both of the oldest entry until now, and of a new one by the estimate
    timeout_ms: int = 10_000  # from a call until its waiter is resolved, whatever happens


class Entry(Generic[M, R]):
    """One member of a batch, and the waiters that share its result: several if equal calls were deduplicated."""

    __slots__ = ("is_queued", "member", "queued_at", "retries", "waiters")

    def __init__(self, member: M, waiters: "list[asyncio.Future[R]]", queued_at: float) -> None:
        self.member = member
        self.waiters = waiters
        self.queued_at = queued_at
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


class Queue(Generic[M, R]):
    """Entries in the order of their arrival.

    With `deduplicate`, equal members that are queued at the same time share one entry; with `unique_keys`, no two
    members of one batch share any key.
    """

    def __init__(
        self,
        limits: Limits,
        in_flight_max: int,
        *,
        deduplicate: bool,
        unique_keys: Callable[[M], Collection[Hashable]] | None,
    ) -> None:
        self._limits = limits
        self._deduplicate = deduplicate
        self._unique_keys = unique_keys
        self.wait_estimator = WaitEstimator(in_flight_max)
        self._entries: dict[Hashable, Entry[M, R]] = {}
        self._length = 0  # in waiters

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, member: M, waiter: "asyncio.Future[R]", now: float) -> Entry[M, R]:
        """Queue a member, and return its entry, which may be that of an equal one. Raises Overloaded over a bound."""
        if self._length:
            self._check_limits(now)
        key = member if self._deduplicate else waiter
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry(member, [waiter], now)
        else:
            entry.waiters.append(waiter)
        self._length += 1
        return entry

    def _check_limits(self, now: float) -> None:
        if self._length >= self._limits.queue_length_max:
            raise Overloaded("too many requests wait for the database")
        waited_ms = (now - next(iter(self._entries.values())).queued_at) * 1000
        will_wait_ms = self.wait_estimator.wait_s(len(self._entries) // self._limits.batch_size_max, now) * 1000
        if max(waited_ms, will_wait_ms) > self._limits.queue_wait_ms_max:
            raise Overloaded("requests wait too long for the database")

    def take(self) -> list[Entry[M, R]]:
        """Remove and return the next batch: the oldest entries that share no unique key, and none that is cancelled."""
        if self._unique_keys is None and len(self._entries) <= self._limits.batch_size_max:
            return [entry for entry in self.clear() if not entry.is_cancelled]
        taken: list[Entry[M, R]] = []
        keys: set[Hashable] = set()
        for key, entry in list(islice(self._entries.items(), 2 * self._limits.batch_size_max)):
            if len(taken) == self._limits.batch_size_max:
                break
            if not entry.is_cancelled:
                unique = () if self._unique_keys is None else self._unique_keys(entry.member)
                if not keys.isdisjoint(unique):
                    continue
                keys.update(unique)
                taken.append(entry)
            entry.is_queued = False
            del self._entries[key]
            self._length -= len(entry.waiters)
        return taken

    def retry(self, entries: list[Entry[M, R]], error: DatabaseError, retries_max: int) -> None:
        """Queue entries once more, ahead of all others; resolve with `error` those that were retried often enough.

        A queued entry with an equal member is merged into one of them.
        """
        queued, self._entries = self._entries, {}
        for entry in entries:
            if entry.retries >= retries_max:
                entry.resolve(error)
                continue
            entry.retries += 1
            key = entry.member if self._deduplicate else entry.waiters[0]
            if key in queued:
                entry.waiters += queued.pop(key).waiters
            self._entries[key] = entry
            entry.is_queued = True
        self._entries.update(queued)
        self._length = sum(len(entry.waiters) for entry in self._entries.values())

    def clear(self) -> list[Entry[M, R]]:
        """Remove and return all entries."""
        entries, self._entries, self._length = list(self._entries.values()), {}, 0
        for entry in entries:
            entry.is_queued = False
        return entries

    def fail(self, error: DatabaseError) -> None:
        """Remove all entries, and resolve them with an error."""
        for entry in self.clear():
            entry.resolve(error)

    def expire(self, queued_until: float) -> None:
        """Resolve with TimedOut the entries that were queued no later than at this time of the loop's clock."""
        expire(self._entries.values(), queued_until, TimedOut("it was queued for too long"))


def expire(entries: Iterable[Entry[M, R]], queued_until: float, error: DatabaseError) -> None:
    """Resolve with an error the entries that were queued no later than at this time of the loop's clock."""
    for entry in entries:
        if entry.queued_at <= queued_until:
            entry.resolve(error)
