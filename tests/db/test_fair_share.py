"""Fair share: however much one caller asks for, another one's calls leave in the next batches, and are not refused."""

import asyncio
import random
from collections import Counter
from collections.abc import Collection, Hashable
from typing import Any

import pytest

from db.batching.entry import Entry
from db.batching.queue import Limits, Queue
from db.errors import Overloaded, Unavailable
from tests.support.pretending import PretendedDatabase, outcomes, send
from tests.support.waiting import until

GREEDY, QUIET, THIRD = 1, 2, 3


def made(limits: Limits, **choices: Any) -> "Queue[int, int]":
    options = {"deduplicate": False, "unique_keys": None, **choices}
    return Queue(limits, 1, **options)


def add(queue: "Queue[int, int]", caller: int | None, *members: int, now: float = 0.0) -> "list[Entry[int, int]]":
    return [queue.add(member, asyncio.get_running_loop().create_future(), now, caller) for member in members]


def batches(queue: "Queue[int, int]") -> list[list[int]]:
    found = []
    while queue:
        found.append([entry.member for entry in queue.take()])
    return found


def is_refused(queue: "Queue[int, int]", caller: int | None, now: float = 0.0) -> bool:
    try:
        add(queue, caller, 0, now=now)
    except Overloaded:
        return True
    return False


def last_digit(member: int) -> Collection[Hashable]:
    return (member % 10,)


async def test_a_quiet_caller_is_in_the_next_batch_however_many_a_greedy_one_has_queued() -> None:
    database = PretendedDatabase()
    async with database.batcher(Limits(batch_size_max=4)) as batcher:
        [first] = await send(database, batcher, 0)
        greedy = [batcher.submit(member, caller=GREEDY) for member in range(1, 41)]
        quiet = batcher.submit(100, caller=QUIET)
        database.let_go()
        assert await outcomes([first, *greedy, quiet]) == [0, *range(1, 41), 100]
    assert database.batches[1] == [1, 100, 2, 3]
    assert database.batches[2:4] == [[4, 5, 6, 7], [8, 9, 10, 11]]


async def test_callers_have_their_turns_and_each_in_the_order_of_arrival() -> None:
    queue = made(Limits(batch_size_max=4))
    add(queue, GREEDY, 10, 11, 12, 13, 14, 15)
    add(queue, QUIET, 20, 21)
    add(queue, THIRD, 30, 31, 32)
    assert batches(queue) == [[10, 20, 30, 11], [21, 31, 12, 32], [13, 14, 15]]


async def test_with_more_callers_than_a_batch_takes_each_has_a_turn_before_any_has_another() -> None:
    queue = made(Limits(batch_size_max=2))
    for caller in range(5):
        add(queue, caller, caller, caller + 10)
    assert batches(queue) == [[0, 1], [2, 3], [4, 10], [11, 12], [13, 14]]


@pytest.mark.parametrize("choices", [{}, {"deduplicate": True}, {"unique_keys": last_digit}])
async def test_what_one_batch_takes_leaves_in_the_order_of_arrival(choices: dict[str, Any]) -> None:
    queue = made(Limits(batch_size_max=6), **choices)
    for caller, member in [(1, 5), (2, 3), (1, 4), (None, 2), (2, 1)]:
        add(queue, caller, member)
    assert batches(queue) == [[5, 3, 4, 2, 1]]


async def test_calls_of_nobody_in_particular_have_turns_like_a_caller() -> None:
    queue = made(Limits(batch_size_max=2))
    add(queue, None, 1, 2, 3)
    add(queue, GREEDY, 10, 11, 12)
    assert batches(queue) == [[1, 10], [2, 11], [3, 12]]


async def test_a_full_queue_refuses_who_has_filled_it_and_nobody_else() -> None:
    queue = made(Limits(batch_size_max=2, queue_length_max=8))
    add(queue, GREEDY, *range(8))
    assert is_refused(queue, GREEDY)
    add(queue, QUIET, 20, 21, 22, 23)  # as many as its share
    assert is_refused(queue, QUIET)
    assert is_refused(queue, GREEDY)
    add(queue, THIRD, 30)


async def test_equal_calls_fill_a_queue_one_by_one_for_the_caller_alone() -> None:
    queue = made(Limits(queue_length_max=8), deduplicate=True)
    add(queue, GREEDY, *[7] * 8)
    assert is_refused(queue, GREEDY)
    add(queue, QUIET, 7, 8)
    assert batches(queue) == [[7, 8]]


async def test_a_wait_is_estimated_for_the_callers_own_turns() -> None:
    queue = made(Limits(batch_size_max=1, queue_wait_ms_max=100))
    for _ in range(100):
        queue.wait_estimator.observe(0.03)
    queue.wait_estimator.start(0.0)
    add(queue, GREEDY, 1, 2, 3)  # that leave after 30, 60 and 90 ms
    assert is_refused(queue, GREEDY)
    add(queue, QUIET, 20)  # after 60 ms, as it has every other turn
    assert is_refused(queue, QUIET)  # its next one would leave after 120 ms
    assert [entry.member for entry in queue.take()] == [1]
    assert [entry.member for entry in queue.take()] == [20]


async def test_who_has_waited_for_too_long_is_refused_and_nobody_else_while_batches_leave() -> None:
    queue = made(Limits(batch_size_max=1, queue_wait_ms_max=100))
    add(queue, GREEDY, 1, 2, 3)
    queue.wait_estimator.finish(queue.wait_estimator.start(0.1))
    assert is_refused(queue, GREEDY, now=0.2)
    assert not is_refused(queue, QUIET, now=0.2)


async def test_while_no_batch_leaves_everybody_is_refused() -> None:
    queue = made(Limits(batch_size_max=1, queue_wait_ms_max=100))
    add(queue, GREEDY, 1, 2, 3)
    queue.wait_estimator.start(0.0)
    assert is_refused(queue, GREEDY, now=0.2)
    assert is_refused(queue, QUIET, now=0.2)


async def test_who_waits_for_a_key_that_another_caller_has_is_the_next_to_have_it() -> None:
    queue = made(Limits(), unique_keys=last_digit)
    add(queue, GREEDY, 7, 17, 27, 37)  # fewer than a batch takes
    add(queue, QUIET, 107, 117)
    add(queue, THIRD, 205)
    assert batches(queue) == [[7, 205], [17], [107], [27], [117], [37]]


async def test_an_entry_that_callers_share_leaves_once_and_in_the_turn_of_the_first_of_them() -> None:
    queue = made(Limits(batch_size_max=2), deduplicate=True)
    add(queue, GREEDY, *range(6))
    [shared] = add(queue, QUIET, 5)
    assert len(shared.waiters) == 2
    assert batches(queue) == [[0, 5], [1, 2], [3, 4]]


async def test_a_shared_entry_counts_for_each_caller_until_it_leaves() -> None:
    queue = made(Limits(batch_size_max=1, queue_length_max=4), deduplicate=True)
    add(queue, GREEDY, 0, 1, 2)
    add(queue, QUIET, 2)
    add(queue, QUIET, 2)  # its share
    assert is_refused(queue, QUIET)
    assert batches(queue) == [[0], [2], [1]]
    assert not is_refused(queue, QUIET)


async def test_entries_that_a_caller_has_left_are_no_turns_of_another() -> None:
    queue = made(Limits(batch_size_max=2))
    for entry in add(queue, GREEDY, 1, 2):
        entry.waiters[0].cancel()
    add(queue, QUIET, 20, 21)
    assert batches(queue) == [[20, 21]]


@pytest.mark.parametrize("deduplicate", [True, False])
async def test_what_is_retried_has_its_callers_turns_ahead_of_their_others(deduplicate: bool) -> None:
    queue = made(Limits(batch_size_max=2), deduplicate=deduplicate)
    add(queue, GREEDY, 0, 1, 2, 3)
    add(queue, QUIET, 20, 21)
    lost = queue.take()
    assert [entry.member for entry in lost] == [0, 20]
    queue.retry(lost, Unavailable("lost"), 3)
    assert batches(queue) == [[0, 20], [1, 21], [2, 3]]


async def test_equal_entries_of_two_callers_are_merged_when_one_is_retried() -> None:
    queue = made(Limits(batch_size_max=1), deduplicate=True)
    add(queue, GREEDY, 0, 1)
    lost = queue.take()
    add(queue, QUIET, 0)
    queue.retry(lost, Unavailable("lost"), 3)
    [entry] = queue.take()
    assert (entry.member, entry.callers) == (0, [GREEDY, QUIET])
    assert batches(queue) == [[1]]


@pytest.mark.parametrize("choices", [{}, {"deduplicate": True}, {"unique_keys": last_digit}])
@pytest.mark.parametrize("seed", range(5))
async def test_whatever_is_queued_leaves_once_and_nothing_is_left(choices: dict[str, Any], seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - it can be repeated
    queue = made(Limits(batch_size_max=3, queue_length_max=10_000), **choices)
    left: Counter[int] = Counter()
    waiters = 0

    def note(entries: "list[Entry[int, int]]") -> None:
        nonlocal waiters
        assert len(entries) <= 3
        for entry in entries:
            left[entry.member] += 1
            waiters += len(entry.waiters)
            assert len(entry.callers) == len(entry.waiters)

    for number in range(1000):
        add(queue, chance.choice([None, 1, 1, 1, 1, 2, 3]), chance.randrange(20) if choices else number)
        if chance.random() < 0.3:
            taken = queue.take()
            if chance.random() < 0.1:
                queue.retry(taken, Unavailable("lost"), 10**6)
            else:
                note(taken)
    while queue:
        note(queue.take())
    assert waiters == 1000
    assert (queue._length, queue._entries, queue._callers) == (0, {}, {})
    assert choices or set(left.values()) == {1}


async def test_with_an_equal_load_callers_have_an_equal_share() -> None:
    queue = made(Limits(batch_size_max=4), unique_keys=last_digit)
    served: Counter[int | None] = Counter()
    for caller in (GREEDY, QUIET, THIRD):
        add(queue, caller, *[100 * caller + 7] * 3)
    for _ in range(30):
        for entry in queue.take():  # one, as all of them have the same key
            served.update(entry.callers)
            add(queue, entry.callers[0], entry.member)
    assert set(served.values()) == {10}


async def test_the_queues_of_callers_end_with_what_is_queued() -> None:
    database = PretendedDatabase()
    async with database.batcher(Limits(batch_size_max=1)) as batcher:
        [first] = await send(database, batcher, 0)
        waiters = [batcher.submit(member, caller=member % 2) for member in range(1, 6)]
        database.let_go()
        await outcomes([first, *waiters])
        await until(lambda: not batcher._queue._callers)


async def test_callers_have_their_turns_within_the_groups_of_batches() -> None:
    queue = made(Limits(batch_size_max=3), group_key=lambda member: member % 2)
    add(queue, GREEDY, 11, 13, 15, 17, 10)
    add(queue, QUIET, 20, 21)
    add(queue, THIRD, 31)
    # The quiet caller, whose first call is of the other group, is the next to have a batch.
    assert batches(queue) == [[11, 31, 13], [20, 10], [21, 15, 17]]


async def test_a_wait_is_estimated_by_the_batches_that_groups_make() -> None:
    queue = made(Limits(batch_size_max=10, queue_wait_ms_max=1000), group_key=lambda member: member)
    for _ in range(100):
        queue.wait_estimator.observe(0.1)
    add(queue, None, *range(40))
    for _ in range(30):  # each is a batch of its own
        assert len(queue.take()) == 1
    add(queue, None, 100)
    with pytest.raises(Overloaded):
        add(queue, None, *range(200, 220))
