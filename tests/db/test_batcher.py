"""Batchers: which call leaves in which batch, and with which result."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

import pytest

from db.batching.queue import Limits
from db.errors import DatabaseError, InvalidValue, NotFound, Overloaded, TimedOut
from tests.support.pretending import PretendedDatabase, Result, Results, outcomes, refusal, send
from tests.support.waiting import until


@pytest.fixture
def database() -> PretendedDatabase:
    return PretendedDatabase()


def last_digits(member: int) -> list[int]:
    return [member % 10]


def is_large(member: int) -> bool:
    return member >= 10


async def test_the_first_arrival_leaves_at_once(database: PretendedDatabase) -> None:
    async with database.batcher() as batcher:
        waiter = batcher.submit(1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert database.batches == [[1]]
        assert await outcomes([waiter]) == [1]


async def test_what_arrives_during_a_batch_leaves_together(database: PretendedDatabase) -> None:
    async with database.batcher() as batcher:
        [first] = await send(database, batcher, 0)
        others = [batcher.submit(member) for member in (3, 1, 2)]
        database.let_go()
        assert await outcomes([first, *others]) == [0, 3, 1, 2]
    assert database.batches == [[0], [3, 1, 2]]


@pytest.mark.parametrize("deduplicate", [True, False])
async def test_no_call_joins_a_batch_that_was_sent(database: PretendedDatabase, deduplicate: bool) -> None:
    async with database.batcher(deduplicate=deduplicate) as batcher:
        [first] = await send(database, batcher, 7)
        second = batcher.submit(7)
        database.land()
        await first
        assert not second.done()
        database.let_go()
        assert await second is not first.result()
    assert database.batches == [[7], [7]]


@pytest.mark.parametrize("choices", [{}, {"deduplicate": True}, {"unique_keys": last_digits}, {"group_key": is_large}])
async def test_a_batch_is_no_larger_than_its_bound(database: PretendedDatabase, choices: dict[str, Any]) -> None:
    async with database.batcher(Limits(batch_size_max=3), **choices) as batcher:
        [first] = await send(database, batcher, 0)
        others = [batcher.submit(member) for member in range(1, 8)]
        database.let_go()
        assert await outcomes([first, *others]) == list(range(8))
    assert database.batches == [[0], [1, 2, 3], [4, 5, 6], [7]]


async def test_over_the_queues_length_an_arrival_is_refused_at_once(database: PretendedDatabase) -> None:
    async with database.batcher(Limits(queue_length_max=2)) as batcher:
        [first] = await send(database, batcher, 0)
        others = [batcher.submit(1), batcher.submit(2)]
        assert [refusal(batcher, 3) for _ in range(3)] == [Overloaded] * 3
        database.let_go()
        assert await outcomes([first, *others]) == [0, 1, 2]
        assert await outcomes([batcher.submit(4)]) == [4]
    assert 3 not in chain(*database.batches)


async def test_those_who_share_a_run_count_one_by_one(database: PretendedDatabase) -> None:
    async with database.batcher(Limits(queue_length_max=2), deduplicate=True) as batcher:
        waiters = [*await send(database, batcher, 0), batcher.submit(1), batcher.submit(1)]
        assert refusal(batcher, 1) is Overloaded
        database.let_go()
        assert await outcomes(waiters) == [0, 1, 1]


async def test_behind_one_who_has_waited_too_long_an_arrival_is_refused_at_once(database: PretendedDatabase) -> None:
    async with database.batcher(Limits(queue_wait_ms_max=5)) as batcher:
        [first] = await send(database, batcher, 0)
        second = batcher.submit(1)
        queued = asyncio.get_running_loop().time()
        await until(lambda: asyncio.get_running_loop().time() - queued > 0.005)
        assert refusal(batcher, 2) is Overloaded
        database.let_go()
        assert await outcomes([first, second]) == [0, 1]
        assert await outcomes([batcher.submit(3)]) == [3]


async def test_a_long_batch_alone_refuses_nobody(database: PretendedDatabase) -> None:
    async with database.batcher(Limits(queue_wait_ms_max=0)) as batcher:
        [first] = await send(database, batcher, 0)
        second = batcher.submit(1)
        database.let_go()
        assert await outcomes([first, second]) == [0, 1]


@pytest.mark.parametrize("choices", [{}, {"deduplicate": True}, {"unique_keys": last_digits}, {"group_key": is_large}])
async def test_who_left_before_the_batch_did_is_not_in_it(database: PretendedDatabase, choices: dict[str, Any]) -> None:
    async with database.batcher(**choices) as batcher:
        [first] = await send(database, batcher, 0)
        stays, leaves = [batcher.submit(1), batcher.submit(3)], batcher.submit(2)
        leaves.cancel()
        database.let_go()
        assert await outcomes([first, *stays]) == [0, 1, 3]
    assert database.batches == [[0], [1, 3]]


async def test_a_batch_that_everyone_left_is_not_sent(database: PretendedDatabase) -> None:
    async with database.batcher() as batcher:
        [first] = await send(database, batcher, 0)
        for waiter in [batcher.submit(1), batcher.submit(2)]:
            waiter.cancel()
        database.let_go()
        await first
        assert await outcomes([batcher.submit(3)]) == [3]
    assert database.batches == [[0], [3]]


async def test_many_who_left_do_not_hide_those_behind_them(database: PretendedDatabase) -> None:
    async with database.batcher(Limits(batch_size_max=2)) as batcher:
        waiters = [*await send(database, batcher, 0)]
        for waiter in [batcher.submit(member) for member in range(1, 20)]:
            waiter.cancel()
        waiters.append(batcher.submit(20))
        asyncio.get_running_loop().call_soon(database.let_go)
    assert await outcomes(waiters) == [0, 20]  # with results, although the batcher was already closing


async def test_who_shares_a_run_may_leave_and_the_others_get_their_results(database: PretendedDatabase) -> None:
    async with database.batcher(deduplicate=True) as batcher:
        [first] = await send(database, batcher, 0)
        leaves, stays = batcher.submit(1), batcher.submit(1)
        leaves.cancel()
        database.let_go()
        assert await outcomes([first, stays]) == [0, 1]


@pytest.mark.parametrize("refused", [set(), {1}, {2}])
async def test_who_leaves_while_in_flight_disturbs_nobody(database: PretendedDatabase, refused: set[int]) -> None:
    noise: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    database.refused = refused
    async with database.batcher() as batcher:
        waiters = [*await send(database, batcher, 0), *(batcher.submit(member) for member in (1, 2, 3))]
        database.land()
        await until(lambda: database.in_flight)
        waiters[1].cancel()
        database.let_go()
        expected = [InvalidValue if member in refused else member for member in (2, 3, 4)]
        assert await outcomes([*waiters[2:], batcher.submit(4)]) == expected
    assert not noise


async def test_a_cancelled_call_withdraws_its_member(database: PretendedDatabase) -> None:
    async with database.batcher() as batcher:
        [first] = await send(database, batcher, 0)
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await batcher.submit(1)
        database.let_go()
        assert await outcomes([first, batcher.submit(2)]) == [0, 2]
    assert 1 not in chain(*database.batches)


@pytest.mark.parametrize("bad", [0, 77, 255])
async def test_one_bad_member_fails_alone(database: PretendedDatabase, bad: int) -> None:
    async with database.batcher() as batcher:
        [first] = await send(database, batcher, 1000)
        database.refused = {bad}
        waiters = [batcher.submit(member) for member in range(256)]
        database.let_go()
        assert await outcomes([first, *waiters]) == [1000, *range(bad), InvalidValue, *range(bad + 1, 256)]
    assert sorted(database.done) == [*(set(range(256)) - {bad}), 1000]  # each of the others ran once
    assert len(database.batches) == 1 + 1 + 2 * 8  # two halves for each halving of 256


async def test_several_bad_members_fail_each_with_its_own_reason(database: PretendedDatabase) -> None:
    async with database.batcher() as batcher:
        [first] = await send(database, batcher, 1000)
        database.refused = {3, 4, 60}
        waiters = [batcher.submit(member) for member in range(100)]
        database.let_go()
        await outcomes([first, *waiters])
    assert {n: str(waiter.exception()) for n, waiter in enumerate(waiters) if waiter.exception()} == {
        bad: f"not with {{{bad}}}" for bad in (3, 4, 60)
    }


@pytest.mark.parametrize("error", [TimedOut("too slow"), Overloaded("too many")])
async def test_an_error_of_no_single_call_is_for_the_whole_batch(
    database: PretendedDatabase, error: DatabaseError
) -> None:
    def fail(_members: Sequence[int]) -> Results:
        raise error

    async with database.batcher(idempotent=True) as batcher:
        waiters = [*await send(database, batcher, 0), batcher.submit(1), batcher.submit(2)]
        database.respond = fail
        database.let_go()
        assert await outcomes(waiters) == [type(error)] * 3
    assert database.batches == [[0], [1, 2]]


async def test_an_exception_among_the_results_is_for_that_member_alone(database: PretendedDatabase) -> None:
    missing = NotFound([2], "number")
    database.respond = lambda members: [missing if member == 2 else Result(member) for member in members]
    async with database.batcher() as batcher:
        waiters = [*await send(database, batcher, 0), *(batcher.submit(member) for member in (1, 2, 3))]
        database.let_go()
        assert await outcomes(waiters) == [0, 1, NotFound, 3]
    assert database.batches == [[0], [1, 2, 3]]


async def test_the_same_key_twice_waits_for_the_next_batch_in_its_order(database: PretendedDatabase) -> None:
    async with database.batcher(unique_keys=last_digits) as batcher:
        waiters = [*await send(database, batcher, 0), *(batcher.submit(member) for member in (11, 2, 21, 31, 3, 12))]
        database.let_go()
        assert await outcomes(waiters) == [0, 11, 2, 21, 31, 3, 12]
    assert database.batches == [[0], [11, 2, 3], [21, 12], [31]]


async def test_a_batch_has_one_group_that_of_who_has_waited_longest(database: PretendedDatabase) -> None:
    async with database.batcher(Limits(batch_size_max=2), group_key=is_large) as batcher:
        waiters = [*await send(database, batcher, 0), *(batcher.submit(member) for member in (11, 1, 12, 13, 2, 3, 14))]
        database.let_go()
        assert await outcomes(waiters) == [0, 11, 1, 12, 13, 2, 3, 14]
    assert database.batches == [[0], [11, 12], [1, 2], [13, 14], [3]]


async def test_equal_members_that_wait_together_share_one_run_and_one_result(database: PretendedDatabase) -> None:
    async with database.batcher(deduplicate=True) as batcher:
        waiters = [*await send(database, batcher, 0), *(batcher.submit(member) for member in (1, 2, 1, 1))]
        database.let_go()
        assert await outcomes(waiters) == [0, 1, 2, 1, 1]
        assert waiters[1].result() is waiters[3].result() is waiters[4].result()
    assert database.batches == [[0], [1, 2]]


@pytest.mark.parametrize("results", [0, 3])
async def test_too_few_or_too_many_results_are_nobodys(database: PretendedDatabase, results: int) -> None:
    async with database.batcher() as batcher:
        waiters = [*await send(database, batcher, 0), batcher.submit(1), batcher.submit(2)]
        right, database.respond = database.respond, lambda _: [Result(1)] * results
        database.let_go()
        assert await outcomes(waiters) == [RuntimeError] * 3
        database.respond = right
        assert await outcomes([batcher.submit(3)]) == [3]
    assert database.batches == [[0], [1, 2], [3]]  # what may have been written is not written again
    assert database.attempts == 1


async def test_an_error_that_many_get_does_not_grow_from_one_to_the_next(database: PretendedDatabase) -> None:
    def fail(_members: Sequence[int]) -> Results:
        raise TimedOut("too slow")

    async def frames(member: int) -> int:
        with pytest.raises(DatabaseError) as caught:
            await batcher.submit(member)
        assert caught.value.__context__ is None
        return len(caught.traceback)

    async with database.batcher() as batcher:
        database.respond = fail
        assert len(set(await asyncio.gather(*map(frames, range(50))))) == 1
    assert len({await frames(member) for member in range(50)}) == 1
