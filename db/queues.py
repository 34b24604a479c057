"""Who waits for a lane, and who leaves with the next set."""

import asyncio
from collections.abc import Callable, Hashable, Iterable
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from db.errors import DatabaseError, Overloaded, TimedOut
from db.flights import Flights

M = TypeVar("M", bound=Hashable)
R = TypeVar("R")


class Limits(NamedTuple):
    """The bounds of a lane; over those of the queue an arrival is refused at once."""

    set_size_max: int = 256
    queue_length_max: int = 4096
    queue_age_ms_max: int = 1000  # that a member has waited, or will have to
    timeout_ms: int = 10_000  # until a member is answered, whatever happens


class Group(Generic[M, R]):
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
    def abandoned(self) -> bool:
        """Whether nobody waits any more."""
        return all(map(asyncio.Future.done, self.waiters))


class Queue(Generic[M, R]):
    """Groups in the order of their arrival.

    With `shared`, equal members that wait together are one; with `exclusive`, no two members that leave together have
    the same key.
    """

    def __init__(
        self, limits: Limits, connections: int, *, shared: bool, exclusive: Callable[[M], Hashable] | None
    ) -> None:
        self._limits = limits
        self._shared = shared
        self._exclusive = exclusive
        self.flights = Flights(connections)
        self._groups: dict[Hashable, Group[M, R]] = {}
        self._length = 0

    def __bool__(self) -> bool:
        return bool(self._groups)

    def add(self, member: M, waiter: "asyncio.Future[R]", now: float) -> Group[M, R]:
        """Let someone wait. Raises Overloaded over a bound."""
        if self._length:
            self._check(now)
        key = member if self._shared else waiter
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(member, [waiter], now)
        else:
            group.waiters.append(waiter)
        self._length += 1
        return group

    def _check(self, now: float) -> None:
        if self._length >= self._limits.queue_length_max:
            raise Overloaded("too many requests wait for the database")
        waited_ms = (now - next(iter(self._groups.values())).since) * 1000
        will_wait_ms = self.flights.wait_s(len(self._groups) // self._limits.set_size_max, now) * 1000
        if max(waited_ms, will_wait_ms) > self._limits.queue_age_ms_max:
            raise Overloaded("requests wait too long for the database")

    def take(self) -> list[Group[M, R]]:
        """Take the next set: the oldest groups, at most one for each exclusive key, and none that was abandoned."""
        if self._exclusive is None and len(self._groups) <= self._limits.set_size_max:
            return [group for group in self.clear() if not group.abandoned]
        taken: dict[Hashable, Group[M, R]] = {}
        for key, group in list(islice(self._groups.items(), 2 * self._limits.set_size_max)):
            if len(taken) == self._limits.set_size_max:
                break
            mark = key if self._exclusive is None else self._exclusive(group.member)
            if group.abandoned or mark not in taken:
                group.is_queued = False
                del self._groups[key]
                self._length -= len(group.waiters)
            if not group.abandoned and mark not in taken:
                taken[mark] = group
        return list(taken.values())

    def put_back(self, groups: list[Group[M, R]]) -> None:
        """Let groups wait once more, ahead of the others, where equal ones join them."""
        waiting, self._groups = self._groups, {}
        for group in groups:
            key = group.member if self._shared else group.waiters[0]
            if key in waiting:
                group.waiters += waiting.pop(key).waiters
            self._groups[key] = group
            group.is_queued = True
        self._groups.update(waiting)
        self._length = sum(len(group.waiters) for group in self._groups.values())

    def clear(self) -> list[Group[M, R]]:
        """Let everyone go."""
        groups, self._groups, self._length = list(self._groups.values()), {}, 0
        for group in groups:
            group.is_queued = False
        return groups

    def expire(self, until: float) -> None:
        """Give up on those who have waited since before."""
        expire(self._groups.values(), until, TimedOut("nobody had time for it"))


def expire(groups: Iterable[Group[M, R]], until: float, fault: DatabaseError) -> None:
    """Give up on those who have waited since before."""
    for group in groups:
        if group.since <= until:
            group.answer(fault)
