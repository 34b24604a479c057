"""Batchers: how they end, and that nobody waits for one that has."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import Random

import pytest

from db.batching.queue import Limits
from db.errors import DatabaseError, InvalidValue, OutcomeUnknown, Unavailable
from tests.support.pretending import PretendedDatabase, Result, outcomes, refusal, send
from tests.support.waiting import LIMIT_S, until


@pytest.fixture
def database() -> PretendedDatabase:
    return PretendedDatabase()


async def test_closing_completes_what_is_in_flight_and_what_is_queued(database: PretendedDatabase) -> None:
    async with database.batcher(Limits(batch_size_max=2)) as batcher:
        waiters = [*await send(database, batcher, 1), *map(batcher.submit, range(2, 9))]
        asyncio.get_running_loop().call_later(0.01, database.let_go)
    assert await outcomes(waiters) == list(range(1, 9))
    assert refusal(batcher, 9) is Unavailable
    assert not database.open


async def test_closing_while_the_connection_is_lost_refuses_what_is_queued(database: PretendedDatabase) -> None:
    async with database.batcher(idempotent=True) as batcher:
        waiters = [*await send(database, batcher, 1), batcher.submit(2)]
        asyncio.get_running_loop().call_later(0.01, database.crash)
    assert await outcomes(waiters) == [Unavailable, Unavailable]


async def test_closing_while_there_is_no_database_takes_no_time(
    database: PretendedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.batching.connections.RECONNECT_DELAY_S_MIN", 10 * LIMIT_S)
    database.error = OSError()
    connections, batcher = database.closed_batcher()
    async with asyncio.timeout(LIMIT_S), connections:
        assert refusal(batcher, 1) is Unavailable
    await connections.__aexit__()  # a second time it has nothing to do


async def test_closing_while_connecting_completes_what_is_queued(database: PretendedDatabase) -> None:
    async with database.batcher(idempotent=True) as batcher:
        waiters = await send(database, batcher, 1)
        database.doors = asyncio.Event()
        database.crash()
        database.blocks = False
        waiters.append(batcher.submit(2))
        await until(lambda: database.attempts == 2)
        asyncio.get_running_loop().call_later(0.01, database.doors.set)
    assert await outcomes(waiters) == [1, 2]


def idle(_database: PretendedDatabase) -> None:
    pass


def connecting(database: PretendedDatabase) -> None:
    database.doors = asyncio.Event()
    database.open[0].lose()


def backing_off(database: PretendedDatabase) -> None:
    database.error = OSError()
    database.open[0].lose()


@pytest.mark.parametrize("state", [idle, connecting, backing_off])
async def test_who_waits_for_a_connection_whose_task_is_cancelled_is_refused(
    database: PretendedDatabase, state: Callable[[PretendedDatabase], None]
) -> None:
    async with database.batcher() as batcher:
        state(database)
        attempts = database.attempts
        await until(lambda: state is idle or database.attempts > attempts)
        waiters = [batcher.submit(1)] if refusal(batcher, 1) is None else []
        batcher._connections._tasks[0].cancel()
        assert await outcomes(waiters) == [Unavailable] * len(waiters)
        assert refusal(batcher, 2) is Unavailable
    assert not database.open


@pytest.mark.parametrize(("idempotent", "word"), [(True, Unavailable), (False, OutcomeUnknown)])
async def test_who_is_in_flight_when_the_connections_task_is_cancelled_learns_what_is_known(
    database: PretendedDatabase, idempotent: bool, word: type[DatabaseError]
) -> None:
    async with database.batcher(idempotent=idempotent) as batcher:
        waiters = await send(database, batcher, 1, 2, 3, 4)
        database.refused = {1}
        database.land()
        await until(lambda: len(database.batches) == 2 and database.in_flight)  # the first half
        waiters.append(batcher.submit(5))
        batcher._connections._tasks[0].cancel()
        assert await outcomes(waiters) == [word, word, Unavailable, Unavailable, Unavailable]


async def test_a_pool_of_connections_that_is_cancelled_while_opening_leaves_nothing_behind(
    database: PretendedDatabase,
) -> None:
    before = asyncio.all_tasks()
    database.doors = asyncio.Event()
    opening = asyncio.create_task(database.closed_batcher(connections=2)[0].__aenter__())
    await until(lambda: database.attempts == 2)
    opening.cancel()
    asyncio.get_running_loop().call_later(0.01, database.doors.set)
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert asyncio.all_tasks() == before
    assert not database.open


async def test_a_pool_of_connections_that_is_cancelled_while_closing_still_completes_every_call(
    database: PretendedDatabase,
) -> None:
    before = asyncio.all_tasks()
    connections, batcher = database.closed_batcher(idempotent=True)
    await connections.__aenter__()
    waiters = [*await send(database, batcher, 1), batcher.submit(2)]
    closing = asyncio.create_task(connections.__aexit__())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert await outcomes(waiters) == [Unavailable, Unavailable]
    assert asyncio.all_tasks() == before
    assert not database.open


@pytest.mark.parametrize("seed", range(40))
async def test_in_any_disorder_everyone_gets_a_result_and_nothing_is_left(
    database: PretendedDatabase, seed: int
) -> None:
    random = Random(seed)  # noqa: S311 - the same disorder each time
    before = asyncio.all_tasks()
    noise: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    limits = Limits(batch_size_max=random.choice([1, 3, 100]), queue_length_max=random.choice([5, 1000]))
    connections, batcher = database.closed_batcher(
        limits,
        random.choice([1, 3]),
        deduplicate=random.choice([True, False]),
        idempotent=random.choice([True, False]),
        unique_keys=random.choice([None, lambda member: [member]]),
        group_key=random.choice([None, lambda member: member % 2]),
    )
    database.refused = {7, 13}
    waiters: list[tuple[int, asyncio.Future[Result]]] = []
    async with asyncio.timeout(LIMIT_S), connections:
        for _ in range(400):
            await asyncio.sleep(0)
            member = random.randrange(20)
            with suppress(DatabaseError):
                for _ in range(random.choice([0, 0, 1, 5])):
                    waiters += [(member, batcher.submit(member))]
            if waiters and random.random() < 0.2:
                random.choice(waiters)[1].cancel()
            if database.open and random.random() < 0.03:
                random.choice(database.open).lose()
            database.error = OSError() if random.random() < 0.1 else None
            database.blocks = random.random() < 0.5
            while database.in_flight and random.random() < 0.5:
                random.choice([database.land, database.land, database.crash])()
        database.error = None
        database.let_go()
    assert all(waiter.done() for _, waiter in waiters)
    for (member, _), outcome in zip(waiters, await outcomes([waiter for _, waiter in waiters]), strict=True):
        assert outcome in {member, asyncio.CancelledError, OutcomeUnknown, Unavailable, InvalidValue}
        assert outcome is not InvalidValue or member in database.refused
    assert asyncio.all_tasks() == before
    assert not database.open
    assert not noise
