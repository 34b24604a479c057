"""A bounded pool of connections that batchers borrow: who has to wait for whom, and what is refused together."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from db.batching.batcher import Batcher
from db.batching.connections import BatchConnections
from db.batching.queue import Limits
from db.errors import Unavailable
from tests.support.pretending import PretendedBatcher, PretendedConnection, PretendedDatabase, outcomes, refusal
from tests.support.waiting import LIMIT_S, until


class Borrowers:
    """Batchers of several verbs on one pool of connections."""

    def __init__(self, database: PretendedDatabase, size: int, **choices: Any) -> None:
        self.database = database
        self.connections: BatchConnections[PretendedConnection]
        self.connections = BatchConnections("borrowed", database.connect, size, **choices)

    def batcher(self, name: str, **choices: Any) -> PretendedBatcher:
        limits = choices.pop("limits", Limits())
        return Batcher(name, self.connections, self.database.run, limits, **choices)


@pytest.fixture
def database() -> PretendedDatabase:
    return PretendedDatabase()


@asynccontextmanager
async def opened(database: PretendedDatabase, size: int, **choices: Any) -> AsyncIterator[Borrowers]:
    borrowers = Borrowers(database, size, **choices)
    async with asyncio.timeout(LIMIT_S), borrowers.connections:
        try:
            yield borrowers
        finally:
            database.let_go()


async def in_flight(database: PretendedDatabase, number: int) -> None:
    await until(lambda: len(database.in_flight) == number)


async def test_a_read_does_not_wait_for_writes_however_many_there_are(database: PretendedDatabase) -> None:
    async with opened(database, 3) as borrowers:
        writers = [borrowers.batcher(f"write {n}") for n in range(4)]
        reader = borrowers.batcher("read", idempotent=True)
        database.blocks = True
        writes = [writer.submit(n) for n, writer in enumerate(writers)]
        await in_flight(database, 2)  # one connection is left for reads
        database.blocks = False
        assert await outcomes([reader.submit(9)]) == [9]
        assert database.batches == [[0], [1], [9]]
        database.let_go()
        assert await outcomes(writes) == [0, 1, 2, 3]


async def test_a_slow_read_leaves_a_connection_to_the_others(database: PretendedDatabase) -> None:
    async with opened(database, 2) as borrowers:
        counters = [borrowers.batcher(f"count {n}", idempotent=True, slow=True) for n in range(3)]
        lister = borrowers.batcher("list", idempotent=True)
        database.blocks = True
        counts = [counter.submit(n) for n, counter in enumerate(counters)]
        await in_flight(database, 1)
        database.blocks = False
        assert await outcomes([lister.submit(9)]) == [9]
        database.blocks = True
        database.crash(Unavailable("it is gone"))  # it is run again, after those that were queued before
        await until(lambda: len(database.in_flight) == 1 and len(database.open) == 2)
        database.blocks = False
        assert await outcomes([lister.submit(8)]) == [8]
        database.let_go()
        assert await outcomes(counts) == [0, 1, 2]


async def test_writes_that_wait_run_as_soon_as_another_one_is_over(database: PretendedDatabase) -> None:
    async with opened(database, 4, slow_max=1) as borrowers:
        first, second = borrowers.batcher("first"), borrowers.batcher("second")
        database.blocks = True
        writes = [first.submit(1), second.submit(2)]
        await in_flight(database, 1)
        database.land()
        await until(lambda: database.batches == [[1], [2]])
        database.let_go()
        assert await outcomes(writes) == [1, 2]


async def test_a_write_whose_connection_is_lost_lets_the_next_one_run_after_it(database: PretendedDatabase) -> None:
    async with opened(database, 2) as borrowers:
        first, second = borrowers.batcher("first"), borrowers.batcher("second")
        database.blocks = True
        writes = [first.submit(1), second.submit(2)]
        await in_flight(database, 1)
        database.crash(Unavailable("it is gone"))
        database.let_go()
        assert await outcomes(writes) == [1, 2]
        database.blocks = True
        again = [first.submit(3)]
        await in_flight(database, 1)
        database.let_go()
        assert await outcomes(again) == [3]


async def test_batchers_take_turns_on_a_connection(database: PretendedDatabase) -> None:
    async with opened(database, 1) as borrowers:
        one, other = (borrowers.batcher(name, limits=Limits(batch_size_max=2)) for name in ("one", "other"))
        database.blocks = True
        waiters = [one.submit(0)]
        await in_flight(database, 1)
        waiters += [*map(one.submit, (1, 2, 3, 4)), *map(other.submit, (11, 12, 13))]
        database.let_go()
        assert await outcomes(waiters) == [0, 1, 2, 3, 4, 11, 12, 13]
    assert database.batches == [[0], [11, 12], [1, 2], [13], [3, 4]]


@pytest.mark.parametrize("size", [1, 2, 5])
async def test_no_more_connections_are_open_than_the_pool_has(database: PretendedDatabase, size: int) -> None:
    async with opened(database, size) as borrowers:
        batchers = [borrowers.batcher(f"{n}", idempotent=n % 2 == 0, in_flight_max=3) for n in range(7)]
        most = 0
        for round_ in range(20):
            waiters = [batcher.submit(round_) for batcher in batchers]
            if database.open:
                database.open[0].lose()
            while not all(waiter.done() for waiter in waiters):
                most = max(most, len(database.open))
                await asyncio.sleep(0)
    assert most == size


async def test_without_a_connection_all_batchers_refuse_and_with_one_all_serve(database: PretendedDatabase) -> None:
    database.error = OSError()
    async with opened(database, 3) as borrowers:
        batchers = [borrowers.batcher("read", idempotent=True), borrowers.batcher("write")]
        assert [refusal(batcher, 1) for batcher in batchers] == [Unavailable, Unavailable]
        database.error = None
        await until(lambda: [refusal(batcher, 1) for batcher in batchers] == [None, None])
        assert await outcomes([batcher.submit(2) for batcher in batchers]) == [2, 2]


async def test_while_one_connection_is_still_tried_nothing_is_refused(database: PretendedDatabase) -> None:
    async with opened(database, 2) as borrowers:
        reader = borrowers.batcher("read", idempotent=True)
        first, second = database.open
        database.error, database.doors = OSError(), asyncio.Event()
        database.doors.set()
        first.lose()
        tried = database.attempts
        await until(lambda: database.attempts > tried + 1)
        assert refusal(reader, 1) is None
        second.lose()
        await until(lambda: refusal(reader, 1) is Unavailable)
        database.error = None
        await until(lambda: refusal(reader, 1) is None)


async def test_closing_runs_what_is_queued_of_every_batcher(database: PretendedDatabase) -> None:
    waiters: list[asyncio.Future[Any]] = []
    async with opened(database, 2) as borrowers:
        batchers = [borrowers.batcher(f"{n}", limits=Limits(batch_size_max=1)) for n in range(4)]
        database.blocks = True
        for member in range(5):
            waiters += [batcher.submit(10 * n + member) for n, batcher in enumerate(batchers)]
        await in_flight(database, 1)
    assert await outcomes(waiters) == [10 * n + member for member in range(5) for n in range(4)]


def digits(member: int) -> Sequence[int]:
    return [member % 10, 100 + member // 10]


async def test_members_that_share_any_key_are_in_different_batches(database: PretendedDatabase) -> None:
    async with opened(database, 1) as borrowers:
        batcher = borrowers.batcher("write", unique_keys=digits)
        database.blocks = True
        waiters = [batcher.submit(0)]
        await in_flight(database, 1)
        waiters += [batcher.submit(member) for member in (11, 12, 21, 22, 33)]
        database.let_go()
        assert await outcomes(waiters) == [0, 11, 12, 21, 22, 33]
    assert database.batches == [[0], [11, 22, 33], [12, 21]]


async def test_a_busy_batcher_does_not_wake_connections_that_have_nothing_to_run(
    database: PretendedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    next_batch = BatchConnections._next

    def counted(connections: BatchConnections[Any]) -> Any:
        nonlocal looks
        looks += 1
        return next_batch(connections)

    async with opened(database, 4) as borrowers:
        batcher = borrowers.batcher("read", idempotent=True, limits=Limits(batch_size_max=1))
        await until(lambda: len(borrowers.connections._idle) == 4)
        monkeypatch.setattr(BatchConnections, "_next", counted)
        waiters = [batcher.submit(number) for number in range(50)]
        assert await outcomes(waiters) == list(range(50))
        await until(lambda: len(borrowers.connections._idle) == 4)
    assert looks <= 50 + 1 + 4  # one for each batch, one that finds none, and those of closing


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_ends_in_whatever_order_nothing_waits_for_ever(database: PretendedDatabase, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - repeatable, not a secret
    async with opened(database, chance.randint(1, 4), slow_max=chance.choice([None, 1, 2])) as borrowers:
        batchers = [
            borrowers.batcher(
                f"{number}",
                idempotent=chance.random() < 0.5,
                in_flight_max=chance.randint(1, 3),
                limits=Limits(batch_size_max=chance.randint(1, 4)),
            )
            for number in range(5)
        ]
        database.blocks, database.refused = True, {7}
        waiters = []
        for _ in range(200):
            match chance.randrange(6):
                case 0 | 1:
                    waiters.append(chance.choice(batchers).submit(chance.randrange(9)))
                case 2 | 3 if database.in_flight:
                    database.land()
                case 4 if database.in_flight:
                    database.crash(chance.choice([None, Unavailable("it is gone")]))
                case 5 if database.open:
                    chance.choice(database.open).lose()
                case _:
                    await asyncio.sleep(0)
        while not all(waiter.done() for waiter in waiters):
            while database.in_flight:
                database.land()
            await asyncio.sleep(0)
        await asyncio.gather(*waiters, return_exceptions=True)


async def test_a_connection_to_be_given_back_that_is_lost_is_not_given_back_again(database: PretendedDatabase) -> None:
    async with opened(database, 2) as borrowers:
        batcher = borrowers.batcher("read", idempotent=True)
        database.blocks = True
        reads = [batcher.submit(0)]
        await in_flight(database, 1)
        reads.append(borrowers.batcher("other", idempotent=True).submit(1))
        await in_flight(database, 2)
        assert borrowers.connections.give_back()
        database.blocks = False
        for connection in list(database.open):
            connection.lose()
        database.let_go()
        assert await outcomes(reads) == [0, 1]
        await until(lambda: len(database.open) == 2 and not any(connection.closed for connection in database.open))
        assert database.attempts == 4
