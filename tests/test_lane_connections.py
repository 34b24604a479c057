"""Lanes and their connections: lost, found again, shared, and let go."""

import asyncio
from itertools import pairwise

import pytest

from db.errors import DatabaseError, OutcomeUnknown, Unavailable
from db.lanes import Limits
from tests.pretending import PretendedDatabase, outcomes, refusal, send
from tests.waiting import until


@pytest.fixture
def database() -> PretendedDatabase:
    return PretendedDatabase()


async def test_a_repeatable_set_is_run_once_more_when_its_connection_is_lost(database: PretendedDatabase) -> None:
    async with database.lane(repeatable=True) as lane:
        waiters = [*await send(database, lane, 1, 2), lane.submit(3)]
        database.crash()
        database.let_go()
        assert await outcomes(waiters) == [1, 2, 3]
    assert database.sets == [[1, 2], [1, 2, 3]]
    assert database.attempts == 2


async def test_a_repeatable_set_is_not_run_a_third_time(database: PretendedDatabase) -> None:
    async with database.lane(repeatable=True) as lane:
        waiters = [*await send(database, lane, 1, 2), lane.submit(3)]
        database.crash(Unavailable("gone"))
        await until(lambda: database.flights)
        database.crash(Unavailable("gone again"))
        database.let_go()
        assert await outcomes(waiters) == [Unavailable, Unavailable, 3]
    assert database.sets == [[1, 2], [1, 2, 3], [3]]


async def test_those_who_share_a_repeated_run_are_joined_by_those_who_came_meanwhile(
    database: PretendedDatabase,
) -> None:
    async with database.lane(repeatable=True, shared=True) as lane:
        waiters = [*await send(database, lane, 1, 2), lane.submit(2), lane.submit(3)]
        database.crash()
        database.let_go()
        assert await outcomes(waiters) == [1, 2, 2, 3]
    assert database.sets == [[1, 2], [1, 2, 3]]


@pytest.mark.parametrize("loss", [OutcomeUnknown("lost in flight"), Unavailable("lost before")], ids=repr)
async def test_of_a_set_that_is_not_repeatable_each_learns_what_is_known(
    database: PretendedDatabase, loss: DatabaseError
) -> None:
    async with database.lane() as lane:
        waiters = [*await send(database, lane, 1, 2), lane.submit(3)]
        database.crash(loss)
        database.let_go()
        assert await outcomes(waiters) == [type(loss), type(loss), 3]
    assert database.sets == [[1, 2], [3]]


async def test_a_fault_of_the_database_that_leaves_the_connection_alone_is_repeated_on_it(
    database: PretendedDatabase,
) -> None:
    async with database.lane(repeatable=True) as lane:
        waiters = await send(database, lane, 1)
        database.flights.pop().landed.set_exception(Unavailable("a deadlock"))
        database.let_go()
        assert await outcomes(waiters) == [1]
    assert database.attempts == 1


async def test_while_there_is_no_database_everyone_is_refused_at_once_and_afterwards_served(
    database: PretendedDatabase,
) -> None:
    async with database.lane(repeatable=True) as lane:
        waiters = [*await send(database, lane, 1), lane.submit(2)]
        database.fault = ConnectionRefusedError("nobody listens")
        database.crash()
        assert await outcomes(waiters) == [Unavailable, Unavailable]
        assert {refusal(lane, 3) for _ in range(100)} == {Unavailable}
        attempts = database.attempts
        await until(lambda: database.attempts > attempts + 2)
        assert refusal(lane, 3) is Unavailable
        database.fault = None
        database.let_go()
        await until(lambda: refusal(lane, 3) is None)
        assert await outcomes([lane.submit(4)]) == [4]
    assert database.sets == [[1], [4]]


@pytest.mark.parametrize(
    "fault",
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
async def test_whatever_is_raised_on_connecting_the_lane_opens_and_recovers(
    database: PretendedDatabase, fault: Exception
) -> None:
    database.fault = fault
    async with database.lane() as lane:
        assert refusal(lane, 1) is Unavailable
        database.fault = None
        await until(lambda: refusal(lane, 1) is None)
        assert await outcomes([lane.submit(2)]) == [2]


async def test_reconnecting_backs_off_to_less_than_a_second_and_not_in_step(
    database: PretendedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[float] = []

    def at_once(delay_s: float) -> asyncio.Timeout:
        delays.append(delay_s)
        return timeout(0)

    timeout = asyncio.timeout
    database.fault = OSError()
    async with database.lane():
        with monkeypatch.context() as patched:
            patched.setattr("db.lanes.asyncio.timeout", at_once)
            while len(delays) < 60:  # noqa: ASYNC110 - without a timer
                await asyncio.sleep(0)
    assert all(0 < delay <= 1 for delay in delays)
    assert delays[0] < 0.1 < max(delays)
    assert all(later < 5 * earlier for earlier, later in pairwise(delays))
    assert len(set(delays[20:])) > 20


async def test_an_idle_connection_that_is_lost_is_replaced_before_anyone_asks(database: PretendedDatabase) -> None:
    async with database.lane(connections=2) as lane:
        for _ in range(3):
            attempts, lost = database.attempts, list(database.open)
            for connection in lost:
                connection.lose()
            await until(lambda: database.attempts == attempts + 2 and len(database.open) == 2)  # noqa: B023
            assert not set(lost) & set(database.open)
        assert await outcomes([lane.submit(1)]) == [1]


@pytest.mark.parametrize("connections", [1, 2])
async def test_who_arrives_as_the_idle_connection_is_lost_is_answered_by_another(
    database: PretendedDatabase, connections: int
) -> None:
    async with database.lane(connections=connections) as lane:
        await asyncio.sleep(0)  # all idle
        before = lane.submit(1)
        for connection in database.open:
            connection.lose()
        assert await outcomes([before, lane.submit(2)]) == [1, 2]


async def test_several_connections_drain_one_queue(database: PretendedDatabase) -> None:
    async with database.lane(Limits(set_size_max=1), connections=3) as lane:
        waiters = await send(database, lane, 1, 2, 3, 4, 5)
        await until(lambda: len(database.flights) == 3)
        assert len({flight.connection for flight in database.flights}) == 3
        assert sorted(database.sets) == [[1], [2], [3]]
        database.flights.pop(1).landed.set_result(None)
        await until(lambda: len(database.flights) == 3)
        assert database.sets[3:] == [[4]]
        database.let_go()
        assert await outcomes(waiters) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_set_whose_connection_is_lost_is_run_again_by_one_that_is_idle(
    database: PretendedDatabase, is_told: bool
) -> None:
    async with database.lane(connections=2, repeatable=True) as lane:
        waiters = await send(database, lane, 1)
        database.doors = asyncio.Event()  # nobody comes in again
        if is_told:
            database.crash()
        else:
            connection, landed = database.flights.pop()
            connection.closed = True
            landed.set_exception(Unavailable("lost"))
        database.holds = False
        assert await outcomes(waiters) == [1]
        database.doors.set()


async def test_one_connection_is_enough_to_serve(database: PretendedDatabase) -> None:
    async with database.lane(connections=2) as lane:
        database.fault = OSError("no more than one")
        attempts = database.attempts
        database.open[0].lose()
        await until(lambda: database.attempts > attempts + 3)
        assert await outcomes([lane.submit(1)]) == [1]
