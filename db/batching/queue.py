"""Who waits for a batcher, and who leaves with the next batch."""

import asyncio
from collections.abc import Callable, Hashable, Iterable
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from db.batching.wait_estimator import WaitEstimator
from db.errors import DatabaseError, Overloaded, TimedOut

M = TypeVar("M", bound=Hashable)
R = TypeVar("R")


class Limits(NamedTuple):
    """The bounds of a batcher; over those of the queue an arrival is refused at once."""

    batch_size_max: int = 256
    queue_length_max: int = 4096
    queue_wait_ms_max: int = 1000  # that a member has waited, or will have to
    timeout_ms: int = 10_000  # until a member is answered, whatever happens


class Entry(Generic[M, R]):
    """Members that are answered together, and those who wait for the answer."""

    __slots__ = ("is_queued", "member", "retried", "since", "waiters")

    def __init__(self, member: M, waiters: "list[asyncio.Future[R]]", since: float) -> None:
        self.member = member
        self.waiters = waiters
        self.since = since
        self.is_queued = True
        self.retried = False

    def answer(self, result: R | BaseException) -> None:
        """Tell everyone who still waits."""
        for waiter in self.waiters:
            if waiter.done():
                continue
            if isinstance(result, BaseException):
                waiter.set_exception(result)
            else:
                waiter.set_result(result)

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody waits any more."""
        return all(map(asyncio.Future.done, self.waiters))


class Queue(Generic[M, R]):
    """Entries in the order of their arrival.

    With `deduplicate`, equal members that wait together are one; with `unique_key`, no two members that leave together
    have the same key.
    """

    def __init__(
        self, limits: Limits, connections: int, *, deduplicate: bool, unique_key: Callable[[M], Hashable] | None
    ) -> None:
        self._limits = limits
        self._deduplicate = deduplicate
        self._unique_key = unique_key
        self.wait_estimator = WaitEstimator(connections)
        self._entries: dict[Hashable, Entry[M, R]] = {}
        self._length = 0

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, member: M, waiter: "asyncio.Future[R]", now: float) -> Entry[M, R]:
        """Let someone wait. Raises Overloaded over a bound."""
        if self._length:
            self._check(now)
        key = member if self._deduplicate else waiter
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry(member, [waiter], now)
        else:
            entry.waiters.append(waiter)
        self._length += 1
        return entry

    def _check(self, now: float) -> None:
        if self._length >= self._limits.queue_length_max:
            raise Overloaded("too many requests wait for the database")
        waited_ms = (now - next(iter(self._entries.values())).since) * 1000
        will_wait_ms = self.wait_estimator.wait_s(len(self._entries) // self._limits.batch_size_max, now) * 1000
        if max(waited_ms, will_wait_ms) > self._limits.queue_wait_ms_max:
            raise Overloaded("requests wait too long for the database")

    def take(self) -> list[Entry[M, R]]:
        """Take the next batch: the oldest entries, at most one for each unique key, and none that was cancelled."""
        if self._unique_key is None and len(self._entries) <= self._limits.batch_size_max:
            return [entry for entry in self.clear() if not entry.is_cancelled]
        taken: dict[Hashable, Entry[M, R]] = {}
        for key, entry in list(islice(self._entries.items(), 2 * self._limits.batch_size_max)):
            if len(taken) == self._limits.batch_size_max:
                break
            mark = key if self._unique_key is None else self._unique_key(entry.member)
            if entry.is_cancelled or mark not in taken:
                entry.is_queued = False
                del self._entries[key]
                self._length -= len(entry.waiters)
            if not entry.is_cancelled and mark not in taken:
                taken[mark] = entry
        return list(taken.values())

    def put_back(self, entries: list[Entry[M, R]]) -> None:
        """Let entries wait once more, ahead of the others, where equal ones join them."""
        waiting, self._entries = self._entries, {}
        for entry in entries:
            key = entry.member if self._deduplicate else entry.waiters[0]
            if key in waiting:
                entry.waiters += waiting.pop(key).waiters
            self._entries[key] = entry
            entry.is_queued = True
        self._entries.update(waiting)
        self._length = sum(len(entry.waiters) for entry in self._entries.values())

    def clear(self) -> list[Entry[M, R]]:
        """Let everyone go."""
        entries, self._entries, self._length = list(self._entries.values()), {}, 0
        for entry in entries:
            entry.is_queued = False
        return entries

    def expire(self, until: float) -> None:
        """Return up on those who have waited since before."""
        expire(self._entries.values(), until, TimedOut("nobody had time for it"))


def expire(entries: Iterable[Entry[M, R]], until: float, fault: DatabaseError) -> None:
    """Return up on those who have waited since before."""
    for entry in entries:
        if entry.since <= until:
            entry.answer(fault)
