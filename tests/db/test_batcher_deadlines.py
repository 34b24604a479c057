"""Batchers and time: nobody waits for longer than was said, and everybody learns what is known by then."""

import asyncio
import gc
import weakref

import pytest

from db.batching.queue import Limits, Queue
from db.errors import DatabaseError, OutcomeUnknown, Overloaded, TimedOut
from tests.support.pretending import PretendedDatabase, outcomes, refusal, send
from tests.support.waiting import until

SHORT = Limits(timeout_ms=120)


@pytest.fixture
def database() -> PretendedDatabase:
    return PretendedDatabase()


@pytest.mark.parametrize(("idempotent", "word"), [(True, TimedOut), (False, OutcomeUnknown)])
async def test_in_flight_a_reader_gets_a_timeout_and_a_writer_an_unknown_outcome(
    database: PretendedDatabase, idempotent: bool, word: type[DatabaseError]
) -> None:
    async with database.batcher(SHORT, idempotent=idempotent) as batcher:
        waiters = await send(database, batcher, 1, 2)
        assert await outcomes(waiters) == [word, word]
        database.let_go()
        assert await outcomes([batcher.submit(3)]) == [3]


async def test_who_waits_for_too_long_is_dropped_before_its_batch_leaves(database: PretendedDatabase) -> None:
    async with database.batcher(SHORT) as batcher:
        flying = await send(database, batcher, 1)
        waiting = [batcher.submit(2), batcher.submit(3)]
        assert await outcomes(waiting) == [TimedOut, TimedOut]
        database.let_go()
        await outcomes(flying)
        assert await outcomes([batcher.submit(4)]) == [4]
    assert database.batches == [[1], [4]]


def soon() -> float:
    return asyncio.get_running_loop().time() + 0.01


async def test_one_whose_time_is_over_is_not_queued(database: PretendedDatabase) -> None:
    async with database.batcher() as batcher:
        with pytest.raises(TimedOut):
            batcher.submit(1, asyncio.get_running_loop().time()).cancel()
    assert not database.batches


async def test_a_result_is_let_go_of_long_before_the_deadline(database: PretendedDatabase) -> None:
    async with database.batcher() as batcher:
        result = weakref.ref(await batcher.submit(1, asyncio.get_running_loop().time() + 600))
        await until(lambda: gc.collect() >= 0 and result() is None)


async def test_one_who_cannot_wait_for_as_long_is_dropped_alone(database: PretendedDatabase) -> None:
    async with database.batcher() as batcher:
        [flying] = await send(database, batcher, 1)
        waiting = [batcher.submit(2), batcher.submit(3, soon()), batcher.submit(4)]
        assert await outcomes(waiting[1:2]) == [TimedOut]
        database.let_go()
        assert await outcomes([flying, waiting[0], waiting[2]]) == [1, 2, 4]
    assert database.batches == [[1], [2, 4]]


@pytest.mark.parametrize(("idempotent", "word"), [(True, TimedOut), (False, OutcomeUnknown)])
async def test_of_those_who_share_a_run_each_has_its_own_limit(
    database: PretendedDatabase, idempotent: bool, word: type[DatabaseError]
) -> None:
    async with database.batcher(deduplicate=True, idempotent=idempotent) as batcher:
        [first] = await send(database, batcher, 0)
        patient, hasty = batcher.submit(1), batcher.submit(1, soon())
        database.land()
        await until(lambda: len(database.batches) == 2)
        assert await outcomes([hasty]) == [word]
        database.let_go()
        assert await outcomes([first, patient]) == [0, 1]


async def test_a_write_that_cannot_be_looked_up_in_time_is_unknown(database: PretendedDatabase) -> None:
    async with database.batcher(SHORT) as batcher:
        waiters = await send(database, batcher, 1)
        database.error = OSError("nobody listens")
        database.crash()
        assert await outcomes(waiters) == [OutcomeUnknown]
        database.error = None
        database.let_go()
        await until(lambda: refusal(batcher, 2) is None)
        assert await outcomes([batcher.submit(3)]) == [3]
    assert database.batches == [[1], [3]]  # a write of unknown outcome is not made later


async def test_an_idle_batcher_looks_at_no_clock(database: PretendedDatabase) -> None:
    async with database.batcher(SHORT) as batcher:
        assert await outcomes([batcher.submit(1)]) == [1]
        await until(lambda: not batcher._is_watched)


def waiting(queue: "Queue[int, int]", members: int) -> None:
    for member in range(members):
        queue.add(member, asyncio.get_running_loop().create_future(), 0.0)


async def test_an_arrival_that_would_have_to_wait_too_long_is_refused_at_once() -> None:
    queue: Queue[int, int] = Queue(Limits(1, queue_wait_ms_max=100), 2, deduplicate=False, unique_keys=None)
    for _ in range(100):
        queue.wait_estimator.observe(0.05)
    for _ in range(2):
        queue.wait_estimator.start(0.0)
    waiting(queue, 4)  # of whom two leave in 50 ms, and two in 100
    with pytest.raises(Overloaded):
        waiting(queue, 1)
    assert len(queue.clear()) == 4


async def test_the_time_until_those_in_flight_end_is_a_part_of_the_wait() -> None:
    queue: Queue[int, int] = Queue(Limits(1, queue_wait_ms_max=100), 2, deduplicate=False, unique_keys=None)
    for _ in range(100):
        queue.wait_estimator.observe(0.05)
    queue.wait_estimator.start(0.0)
    queue.wait_estimator.start(-0.04)  # lands in 10 ms, and the next one in its place 50 ms later
    waiting(queue, 4)  # who leave in 10, 50, 60 and 100 ms
    with pytest.raises(Overloaded):
        waiting(queue, 1)
    queue.wait_estimator.finish(-0.04)
    waiting(queue, 1)  # who leaves in 100 ms, now that one has landed early
    with pytest.raises(Overloaded):
        waiting(queue, 1)


async def test_the_larger_the_batches_the_more_may_wait() -> None:
    queue: Queue[int, int] = Queue(Limits(10, queue_wait_ms_max=100), 2, deduplicate=False, unique_keys=None)
    for _ in range(100):
        queue.wait_estimator.observe(0.05)
    for _ in range(2):
        queue.wait_estimator.start(0.0)
    waiting(queue, 40)
    with pytest.raises(Overloaded):
        waiting(queue, 1)


async def test_connections_that_others_use_count_as_far_as_they_are_to_be_had() -> None:
    queue: Queue[int, int] = Queue(Limits(1, queue_wait_ms_max=100), 4, deduplicate=False, unique_keys=None)
    for number in range(100):
        queue.wait_estimator.observe(0.05)
        queue.wait_estimator.finish(queue.wait_estimator.start(0.025 * number, others_wait=True))
    waiting(queue, 4)  # of whom one leaves every 25 ms, as if there were two connections
    with pytest.raises(Overloaded):
        waiting(queue, 1)


async def test_a_queue_that_was_slow_once_is_soon_forgiven() -> None:
    queue: Queue[int, int] = Queue(Limits(1, queue_wait_ms_max=100), 1, deduplicate=False, unique_keys=None)
    queue.wait_estimator.observe(10.0)
    for _ in range(60):
        queue.wait_estimator.observe(0.001)
    waiting(queue, 50)
    assert len(queue.clear()) == 50
