"""The queue of a batcher: its bounds, its entries, and which of them form the next batch.

While a batch takes all that is queued, the order is that of arrival. From then on each caller has a queue of their own
until nothing is queued any more: a batch takes an entry of each caller in turn, and the bounds count against the caller
who has reached them. So one who asks for little waits for a batch or two, however much another one asks for. Without
authentication all calls are of one caller, None.
"""

import asyncio
from collections.abc import Callable, Collection, Hashable, Iterator
from itertools import islice, repeat
from typing import Generic, NamedTuple, TypeVar

from db.batching.entry import Caller, Entry, expire, in_turn
from db.batching.wait_estimator import WaitEstimator
from db.errors import DatabaseError, Overloaded, TimedOut
from db.limit import Limit

M = TypeVar("M", bound=Hashable)
R = TypeVar("R")


REACH = 8  # entries that are looked at for each place in a batch: with up to so many groups queued, batches are full
TOO_MANY = "too many requests wait for the database"
TOO_LONG = "requests wait too long for the database"


class Limits(NamedTuple):
    """The bounds of a batcher; a call that would exceed one of the queue's is refused at once.

    Where several callers wait, a caller is refused whose share of the length is used up, and no other.
    """

    batch_size_max: int = 256  # members
    queue_length_max: int = 4096  # waiters
    queue_wait_ms_max: int = 1000  # both of a caller's oldest entry until now, and of a new one by the estimate
    timeout_ms: int = 10_000  # from a call until its waiter is resolved, whatever happens


class CallerQueue(Generic[M, R]):
    """The entries that one caller waits for, in the order of their arrival."""

    __slots__ = ("entries", "waiters")

    def __init__(self) -> None:
        self.entries: dict[Hashable, Entry[M, R]] = {}
        self.waiters = 0  # the caller's alone


class Queue(Generic[M, R]):
    """Entries in the order of their arrival, and of each caller in turn where a batch cannot take them all.

    With `deduplicate`, equal members that are queued at the same time share one entry, also those of several callers;
    with `unique_keys`, no two members of one batch share any key; with `group_key`, all members of one have the same.
    """

    def __init__(
        self,
        limits: Limits,
        in_flight_max: int,
        *,
        deduplicate: bool,
        unique_keys: Callable[[M], Collection[Hashable]] | None,
        group_key: Callable[[M], Hashable] | None = None,
    ) -> None:
        self._limits = limits
        self._deduplicate = deduplicate
        self._unique_keys = unique_keys
        self._group_key = group_key
        # By a batch that leaves others behind; of groups a moving average, which some sixteen batches have to pass to
        # follow a change of load. How long the oldest entry may wait is bounded besides.
        self._taken: float = limits.batch_size_max
        self.wait_estimator = WaitEstimator(in_flight_max)
        self._entries: dict[Hashable, Entry[M, R]] = {}
        self._length = 0  # in waiters
        # All entries once more, while callers have their turns: the first has the next; none of the queues is empty.
        self._callers: dict[Caller, CallerQueue[M, R]] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __len__(self) -> int:
        """Return how many waiters are queued."""
        return self._length

    def add(self, member: M, waiter: "asyncio.Future[R]", now: float, caller: Caller = None) -> Entry[M, R]:
        """Queue a member, and return its entry, which may be that of an equal one. Raises Overloaded over a bound."""
        if self._length:
            self._check_limits(caller, now)
        key = member if self._deduplicate else waiter
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry(member, waiter, now, caller)
        else:
            entry.waiters.append(waiter)
            entry.callers.append(caller)
        self._length += 1
        if self._callers:
            self._add_to_caller(caller, key, entry)
        return entry

    def _check_limits(self, caller: Caller, now: float) -> None:
        limits = self._limits
        ahead = int(len(self._entries) / self._taken)
        is_full = self._length >= limits.queue_length_max
        if (ahead or is_full) and caller is not None and not self._callers:
            self._divide()
        if self._callers:
            self._check_share(self._callers.get(caller), now)
            return
        if is_full:
            raise Overloaded(TOO_MANY, Limit.QUEUE_LENGTH)
        waited_ms = (now - next(iter(self._entries.values())).queued_at) * 1000
        will_wait_ms = self.wait_estimator.wait_s(ahead, now) * 1000
        if max(waited_ms, will_wait_ms) > limits.queue_wait_ms_max:
            raise Overloaded(TOO_LONG, Limit.QUEUE_WAIT)

    def _check_share(self, own: CallerQueue[M, R] | None, now: float) -> None:
        """Raise Overloaded if a caller, who may have no queue yet, has reached a bound."""
        limits, callers = self._limits, len(self._callers)
        if own is None:
            # How long the entries of others have waited is their doing, unless nothing leaves.
            first = next(iter(self._callers.values()))
            since = max(next(iter(first.entries.values())).queued_at, self.wait_estimator.latest_start)
            ahead = callers  # each has a turn before
        else:
            if self._length >= limits.queue_length_max <= own.waiters * callers:
                raise Overloaded(TOO_MANY, Limit.QUEUE_LENGTH)
            since = next(iter(own.entries.values())).queued_at
            ahead = len(own.entries) * callers + callers - 1
        will_wait_s = self.wait_estimator.wait_s(int(min(ahead, len(self._entries)) / self._taken), now)
        if max(now - since, will_wait_s) * 1000 > limits.queue_wait_ms_max:
            raise Overloaded(TOO_LONG, Limit.QUEUE_WAIT)

    def _divide(self) -> None:
        """Divide the entries into a queue for each caller, until nothing is queued any more."""
        for key, entry in self._entries.items():
            for caller in entry.callers:
                self._add_to_caller(caller, key, entry)

    def _add_to_caller(self, caller: Caller, key: Hashable, entry: Entry[M, R]) -> None:
        own = self._callers.get(caller)
        if own is None:
            own = self._callers[caller] = CallerQueue()
        own.entries[key] = entry
        own.waiters += 1

    def take(self) -> list[Entry[M, R]]:
        """Remove and return the next batch: the oldest entries, of each caller in turn where callers have their turns.

        No two of them share a unique key, all have the group key of the first, and none is cancelled.
        """
        size, count = self._limits.batch_size_max, len(self._entries)
        if count == 1 or (self._unique_keys is None and self._group_key is None and count <= size):
            return [entry for entry in self.clear() if not entry.is_cancelled]
        taken: list[Entry[M, R]] = []
        keys: set[Hashable] = set()
        removed: list[tuple[Hashable, Entry[M, R]]] = []
        reach = size * (2 if self._group_key is None else REACH)
        queued = self._in_turn(reach) if self._callers else zip(repeat(None), self._entries.items())
        for caller, (key, entry) in islice(queued, reach):
            if len(taken) == size:
                break
            if not entry.is_queued:  # it was another caller's, too
                continue
            if not entry.is_cancelled:
                if not self._may_join(entry.member, taken, keys):
                    continue
                taken.append(entry)
                if self._callers:  # whoever got nothing, as the keys were taken, stays ahead
                    self._callers[caller] = self._callers.pop(caller)
            entry.is_queued = False
            removed.append((key, entry))
        self._remove(removed)
        if taken and self._entries and self._group_key is not None:
            self._taken += (len(taken) - self._taken) / 8
        return taken

    def _may_join(self, member: M, taken: list[Entry[M, R]], keys: set[Hashable]) -> bool:
        """Return whether a member may be in a batch with those taken, and add its unique keys to theirs."""
        if taken and self._group_key is not None and self._group_key(member) != self._group_key(taken[0].member):
            return False
        unique = () if self._unique_keys is None else self._unique_keys(member)
        if not keys.isdisjoint(unique):
            return False
        keys.update(unique)
        return True

    def _in_turn(self, callers_max: int) -> Iterator[tuple[Caller, tuple[Hashable, Entry[M, R]]]]:
        """Return an iterator over keys and entries with their callers: of so many callers, one of each in turn."""
        return in_turn((caller, own.entries.items()) for caller, own in islice(self._callers.items(), callers_max))

    def _remove(self, entries: Collection[tuple[Hashable, Entry[M, R]]]) -> None:
        if len(entries) == len(self._entries):
            self.clear()
            return
        for key, entry in entries:
            del self._entries[key]
            self._length -= len(entry.waiters)
            if self._callers:
                self._remove_from_callers(key, entry)
        if not self._callers and any(entry.callers[0] is not None for _, entry in entries):
            self._divide()  # what is left waits for others with its keys

    def _remove_from_callers(self, key: Hashable, entry: Entry[M, R]) -> None:
        for caller in entry.callers:
            own = self._callers[caller]
            own.entries.pop(key, None)
            own.waiters -= 1
            if not own.waiters:
                del self._callers[caller]

    def retry(self, entries: list[Entry[M, R]], error: DatabaseError, retries_max: int) -> None:
        """Queue entries once more, ahead of all others; resolve with `error` those that were retried often enough.

        A queued entry with an equal member is merged into one of them.
        """
        queued, divided = self._entries, bool(self._callers)
        self._entries, self._callers = {}, {}
        for entry in entries:
            if entry.retries >= retries_max:
                entry.resolve(error)
                continue
            entry.retries += 1
            key = entry.member if self._deduplicate else entry.waiters[0]
            if key in queued:
                equal = queued.pop(key)
                entry.waiters += equal.waiters
                entry.callers += equal.callers
            self._entries[key] = entry
            entry.is_queued = True
        self._entries.update(queued)
        self._length = sum(len(entry.waiters) for entry in self._entries.values())
        if divided:
            self._divide()

    def clear(self) -> list[Entry[M, R]]:
        """Remove and return all entries."""
        entries, self._entries, self._length = list(self._entries.values()), {}, 0
        if self._callers:
            self._callers = {}
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
