"""The concurrency limiter: few at a time, in the order of their arrival, and nobody waits in vain."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from db.engines.limiter import ConcurrencyLimiter
from db.errors import Overloaded
from tests.support.waiting import until


class Users:
    """Users of a limiter, each inside until it is let go."""

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self._limiter = limiter
        self.inside: list[int] = []
        self._leave: dict[int, asyncio.Event] = {}

    def enter(self, number: int, caller: int | None = None) -> "asyncio.Task[None]":
        """Let someone come."""
        self._leave[number] = asyncio.Event()
        return asyncio.create_task(self._use(number, caller))

    def leave(self, number: int) -> None:
        """Let someone go."""
        self._leave[number].set()

    async def _use(self, number: int, caller: int | None) -> None:
        async with self._limiter.turn_of(caller):
            self.inside.append(number)
            await self._leave[number].wait()
            self.inside.remove(number)


def are(users: Users, *numbers: int) -> Callable[[], bool]:
    return lambda: users.inside == list(numbers)


async def test_calls_enter_in_the_order_of_arrival() -> None:
    users = Users(ConcurrencyLimiter(2, 60_000))
    tasks = [users.enter(number) for number in range(5)]
    for number in range(5):
        await until(are(users, *range(number, min(number + 2, 5))))
        users.leave(number)
    assert await asyncio.gather(*tasks) == [None] * 5


async def test_who_waits_for_too_long_is_refused() -> None:
    users = Users(ConcurrencyLimiter(1, 20))
    first = users.enter(0)
    await until(are(users, 0))
    with pytest.raises(Overloaded):
        await users.enter(1)
    users.leave(0)
    await first


async def test_who_would_have_to_wait_for_too_long_is_refused_at_once() -> None:
    limiter = ConcurrencyLimiter(1, 300)
    for _ in range(20):
        async with limiter:
            await asyncio.sleep(0.01)
    users = Users(limiter)
    tasks = [users.enter(number) for number in range(100)]
    await until(lambda: users.inside)
    refused = [task for task in tasks if task.done()]
    assert 50 < len(refused) < 99
    assert all(isinstance(task.exception(), Overloaded) for task in refused)
    for number in range(100):
        users.leave(number)
    await asyncio.wait(tasks)


async def test_where_nobody_has_entered_for_too_long_all_but_one_are_refused_at_once() -> None:
    users = Users(ConcurrencyLimiter(1, 50))
    first, second = users.enter(0), users.enter(1)
    await until(second.done)
    others = [users.enter(number) for number in range(2, 10)]
    await until(lambda: sum(task.done() for task in others) == 7)
    assert not others[0].done()
    users.leave(0)
    users.leave(2)
    await asyncio.wait([first, second, *others])
    assert [type(task.exception()) for task in (first, second, *others)] == [
        type(None),
        Overloaded,
        type(None),
        *[Overloaded] * 7,
    ]


async def test_who_leaves_the_queue_takes_no_place() -> None:
    users = Users(ConcurrencyLimiter(1, 60_000))
    tasks = [users.enter(number) for number in range(3)]
    await until(are(users, 0))
    tasks[1].cancel()
    users.leave(0)
    await until(are(users, 2))
    users.leave(2)
    await asyncio.wait(tasks)
    assert [task.cancelled() for task in tasks] == [False, True, False]


async def test_one_task_may_have_several() -> None:
    limiter = ConcurrencyLimiter(2, 20)
    async with AsyncExitStack() as opened:
        for _ in range(2):
            await opened.enter_async_context(limiter)
        with pytest.raises(Overloaded):
            await opened.enter_async_context(limiter)
    async with limiter:
        pass


async def test_callers_enter_in_turn_however_many_tasks_one_of_them_has() -> None:
    users = Users(ConcurrencyLimiter(1, 60_000))
    tasks = [users.enter(number, caller) for number, caller in enumerate([1, 1, 1, 1, 2, 2, None])]
    for number in (0, 1, 4, 6, 2, 5, 3):
        await until(are(users, number))
        users.leave(number)
    await asyncio.wait(tasks)


async def test_a_wait_is_estimated_for_the_callers_own_turns() -> None:
    limiter = ConcurrencyLimiter(1, 300)
    for _ in range(20):
        async with limiter:
            await asyncio.sleep(0.01)
    users = Users(limiter)
    greedy = [users.enter(number, 1) for number in range(100)]
    await until(lambda: users.inside)
    assert any(task.done() for task in greedy)  # as many wait as may
    quiet = [users.enter(number, 2) for number in range(100, 105)]
    await until(lambda: len(limiter._waiting) == 2)
    assert not any(task.done() for task in quiet)
    for number in range(105):
        users.leave(number)
    results = await asyncio.gather(*greedy, *quiet, return_exceptions=True)
    assert results[100:] == [None] * 5


async def test_a_place_that_was_given_to_a_cancelled_task_goes_to_the_next() -> None:
    limiter = ConcurrencyLimiter(1, 60_000)
    users = Users(limiter)
    tasks = [users.enter(number, number) for number in range(3)]
    await until(lambda: len(limiter._waiting) == 2)
    users.leave(0)
    asyncio.get_running_loop().call_soon(tasks[1].cancel)  # once it has the place, and before it goes on
    await until(are(users, 2))
    users.leave(2)
    await asyncio.wait(tasks)
    assert [task.cancelled() for task in tasks] == [False, True, False]
    assert (limiter._free, limiter._waiting) == (1, {})
