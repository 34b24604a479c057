"""Batchers and their connections: lost, found again, shared, and let go."""

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest

from db.batching.batcher import CONFLICT_RETRIES_MAX, LOST_TRIES
from db.batching.queue import Limits
from db.errors import ConnectionLost, DatabaseError, OutcomeUnknown, SerializationFailure, Unavailable
from tests.support.pretending import PretendedConnection, PretendedDatabase, outcomes, refusal, send
from tests.support.waiting import until


@pytest.fixture
def database() -> PretendedDatabase:
    return PretendedDatabase()


async def test_an_idempotent_batch_is_run_once_more_when_its_connection_is_lost(database: PretendedDatabase) -> None:
    async with database.batcher(idempotent=True) as batcher:
        waiters = [*await send(database, batcher, 1, 2), batcher.submit(3)]
        database.crash()
        database.let_go()
        assert await outcomes(waiters) == [1, 2, 3]
    assert database.batches == [[1, 2], [1, 2, 3]]
    assert database.attempts == 2


async def test_an_idempotent_batch_is_not_run_a_third_time(database: PretendedDatabase) -> None:
    async with database.batcher(idempotent=True) as batcher:
        waiters = [*await send(database, batcher, 1, 2), batcher.submit(3)]
        database.crash(Unavailable("gone"))
        await until(lambda: database.in_flight)
        database.crash(Unavailable("gone again"))
        database.let_go()
        assert await outcomes(waiters) == [Unavailable, Unavailable, 3]
    assert database.batches == [[1, 2], [1, 2, 3], [3]]


async def test_those_who_share_a_repeated_run_are_joined_by_those_who_came_meanwhile(
    database: PretendedDatabase,
) -> None:
    async with database.batcher(idempotent=True, deduplicate=True) as batcher:
        waiters = [*await send(database, batcher, 1, 2), batcher.submit(2), batcher.submit(3)]
        database.crash()
        database.let_go()
        assert await outcomes(waiters) == [1, 2, 2, 3]
    assert database.batches == [[1, 2], [1, 2, 3]]


@pytest.mark.parametrize("loss", [OutcomeUnknown("lost in flight"), ConnectionLost("lost before")], ids=repr)
async def test_any_other_batch_is_run_again_as_it_was_and_under_its_token(
    database: PretendedDatabase, loss: DatabaseError
) -> None:
    async with database.batcher() as batcher:
        waiters = [*await send(database, batcher, 1, 2), batcher.submit(3)]
        database.crash(loss)
        database.let_go()
        assert await outcomes(waiters) == [1, 2, 3]
    assert database.batches == [[1, 2], [1, 2], [3]]
    assert database.tokens[0] == database.tokens[1] != database.tokens[2]


async def test_a_write_that_may_have_happened_waits_for_a_database_that_can_be_asked(
    database: PretendedDatabase,
) -> None:
    async with database.batcher() as batcher:
        [waiter] = await send(database, batcher, 1)
        database.error = OSError("nobody listens")
        database.crash()
        await until(lambda: refusal(batcher, 2) is Unavailable)
        assert not waiter.done()
        database.error = None
        database.let_go()
        assert await outcomes([waiter]) == [1]


async def test_a_write_that_cannot_have_happened_does_not_wait(database: PretendedDatabase) -> None:
    async with database.batcher() as batcher:
        waiters = await send(database, batcher, 1, 2)
        database.error = OSError("nobody listens")
        database.crash(ConnectionLost("before it was sent"))
        assert await outcomes(waiters) == [Unavailable, Unavailable]
    assert database.batches == [[1, 2]]


async def test_a_write_that_ends_every_connection_is_given_up(database: PretendedDatabase) -> None:
    async with database.batcher() as batcher:
        [waiter] = await send(database, batcher, 1)
        for number in range(1, LOST_TRIES + 1):
            await until(lambda number=number: len(database.batches) == number and database.in_flight)  # type: ignore[misc]
            database.crash()
        assert await outcomes([waiter]) == [OutcomeUnknown]
        database.let_go()
        assert await outcomes([batcher.submit(2)]) == [2]


@pytest.mark.parametrize("times", [1, CONFLICT_RETRIES_MAX, CONFLICT_RETRIES_MAX + 1])
async def test_a_batch_that_conflicts_is_run_again_a_few_times(database: PretendedDatabase, times: int) -> None:
    async with database.batcher() as batcher:
        waiters = await send(database, batcher, 1, 2)
        for number in range(1, times + 1):
            await until(lambda number=number: len(database.batches) == number and database.in_flight)  # type: ignore[misc]
            database.in_flight.pop().landed.set_exception(SerializationFailure("a deadlock"))
        database.let_go()
        assert await outcomes(waiters) == [1, 2]
    assert database.batches[times:] == (
        [[1, 2]] if times <= CONFLICT_RETRIES_MAX else [[1], [2]]
    )  # then each by itself
    assert database.attempts == 1


async def test_a_member_that_others_are_always_in_the_way_of_is_given_up(database: PretendedDatabase) -> None:
    async with database.batcher() as batcher:
        waiters = await send(database, batcher, 1)
        for number in range(1, CONFLICT_RETRIES_MAX + 2):
            await until(lambda number=number: len(database.batches) == number and database.in_flight)  # type: ignore[misc]
            database.in_flight.pop().landed.set_exception(SerializationFailure("a deadlock"))
        assert await outcomes(waiters) == [SerializationFailure]


async def test_a_database_that_takes_connections_only_to_end_them_is_not_asked_without_a_pause(
    database: PretendedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    class Ending(PretendedConnection):
        def add_close_callback(self, callback: Callable[[], None]) -> None:
            super().add_close_callback(callback)
            self.lose()

    async def pause(delay_s: float) -> None:
        pauses.append(delay_s)
        await asyncio.sleep(0)

    monkeypatch.setattr("tests.support.pretending.PretendedConnection", Ending)
    connections, _ = database.closed_batcher()
    async with connections:
        monkeypatch.setattr(connections, "pause", pause)
        await until(lambda: len(pauses) > 6)
        assert pauses[6] > 4 * pauses[0]


async def test_an_error_of_the_database_that_leaves_the_connection_alone_is_repeated_on_it(
    database: PretendedDatabase,
) -> None:
    async with database.batcher(idempotent=True) as batcher:
        waiters = await send(database, batcher, 1)
        database.in_flight.pop().landed.set_exception(Unavailable("a deadlock"))
        database.let_go()
        assert await outcomes(waiters) == [1]
    assert database.attempts == 1


async def test_while_there_is_no_database_everyone_is_refused_at_once_and_afterwards_served(
    database: PretendedDatabase,
) -> None:
    async with database.batcher(idempotent=True) as batcher:
        waiters = [*await send(database, batcher, 1), batcher.submit(2)]
        database.error = ConnectionRefusedError("nobody listens")
        database.crash()
        assert await outcomes(waiters) == [Unavailable, Unavailable]
        assert {refusal(batcher, 3) for _ in range(100)} == {Unavailable}
        attempts = database.attempts
        await until(lambda: database.attempts > attempts + 2)
        assert refusal(batcher, 3) is Unavailable
        database.error = None
        database.let_go()
        await until(lambda: refusal(batcher, 3) is None)
        assert await outcomes([batcher.submit(4)]) == [4]
    assert database.batches == [[1], [4]]


@pytest.mark.parametrize(
    "error",
    [
        OSError("no route"),
        TimeoutError(),
        ValueError("not a number"),
        KeyError("x"),
        AssertionError(),
        Unavailable("no"),
        OutcomeUnknown("really?"),
        ExceptionGroup("several", [OSError()]),
    ],
    ids=repr,
)
async def test_whatever_is_raised_on_connecting_the_pool_opens_and_recovers(
    database: PretendedDatabase, error: Exception
) -> None:
    database.error = error
    async with database.batcher() as batcher:
        assert refusal(batcher, 1) is Unavailable
        database.error = None
        await until(lambda: refusal(batcher, 1) is None)
        assert await outcomes([batcher.submit(2)]) == [2]


async def test_reconnecting_backs_off_to_less_than_a_second_and_not_in_step(
    database: PretendedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[float] = []

    def at_once(delay_s: float) -> asyncio.Timeout:
        delays.append(delay_s)
        return timeout(0)

    timeout = asyncio.timeout
    database.error = OSError()
    async with database.batcher():
        with monkeypatch.context() as patched:
            patched.setattr("db.batching.batcher.asyncio.timeout", at_once)
            while len(delays) < 60:  # noqa: ASYNC110 - without a timer
                await asyncio.sleep(0)
    assert all(0 < delay <= 1 for delay in delays)
    assert delays[0] < 0.1 < max(delays)
    assert all(later < 5 * earlier for earlier, later in pairwise(delays))
    assert len(set(delays[20:])) > 20


async def test_an_idle_connection_that_is_lost_is_replaced_before_anyone_asks(database: PretendedDatabase) -> None:
    async with database.batcher(connections=2) as batcher:
        for _ in range(3):
            attempts, lost = database.attempts, list(database.open)
            for connection in lost:
                connection.lose()
            await until(lambda: database.attempts == attempts + 2 and len(database.open) == 2)  # noqa: B023
            assert not set(lost) & set(database.open)
        assert await outcomes([batcher.submit(1)]) == [1]


@pytest.mark.parametrize("connections", [1, 2])
async def test_who_arrives_as_the_idle_connection_is_lost_is_served_by_another(
    database: PretendedDatabase, connections: int
) -> None:
    async with database.batcher(connections=connections) as batcher:
        await asyncio.sleep(0)  # all idle
        before = batcher.submit(1)
        for connection in database.open:
            connection.lose()
        assert await outcomes([before, batcher.submit(2)]) == [1, 2]


async def test_several_connections_drain_one_queue(database: PretendedDatabase) -> None:
    async with database.batcher(Limits(batch_size_max=1), connections=3) as batcher:
        waiters = await send(database, batcher, 1, 2, 3, 4, 5)
        await until(lambda: len(database.in_flight) == 3)
        assert len({batch.connection for batch in database.in_flight}) == 3
        assert sorted(database.batches) == [[1], [2], [3]]
        database.in_flight.pop(1).landed.set_result(None)
        await until(lambda: len(database.in_flight) == 3)
        assert database.batches[3:] == [[4]]
        database.let_go()
        assert await outcomes(waiters) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_batch_whose_connection_is_lost_is_run_again_by_one_that_is_idle(
    database: PretendedDatabase, is_told: bool
) -> None:
    async with database.batcher(connections=2, idempotent=True) as batcher:
        waiters = await send(database, batcher, 1)
        database.doors = asyncio.Event()  # nobody comes in again
        if is_told:
            database.crash()
        else:
            connection, landed = database.in_flight.pop()
            connection.closed = True
            landed.set_exception(Unavailable("lost"))
        database.blocks = False
        assert await outcomes(waiters) == [1]
        database.doors.set()


async def test_one_connection_is_enough_to_serve(database: PretendedDatabase) -> None:
    async with database.batcher(connections=2) as batcher:
        database.error = OSError("no more than one")
        attempts = database.attempts
        database.open[0].lose()
        await until(lambda: database.attempts > attempts + 3)
        assert await outcomes([batcher.submit(1)]) == [1]
