"""A database without SQL whose behaviour a test chooses: a batcher knows nothing else of one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from db.batching.batcher import Batcher
from db.batching.connections import BatchConnections
from db.batching.queue import Limits
from db.errors import DatabaseError, InvalidValue, OutcomeUnknown
from tests.support.waiting import LIMIT_S, until

BOUNDS = Limits()


class Result:
    """The result of a member; each run makes its own."""

    def __init__(self, member: int) -> None:
        self.member = member


Results = list[Result | BaseException]


class PretendedConnection:
    """A connection that a test can lose."""

    def __init__(self) -> None:
        self.closed = False
        self._callbacks: list[Callable[[], None]] = []

    def add_close_callback(self, callback: Callable[[], None]) -> None:
        """Remember whom to call."""
        self._callbacks.append(callback)

    def lose(self) -> None:
        """Lose it; as with a driver, the callbacks run a little later."""
        self.closed = True
        for callback in self._callbacks:
            asyncio.get_running_loop().call_soon(callback)


class BatchInFlight(NamedTuple):
    """A batch that was sent, and has no results yet."""

    connection: PretendedConnection
    landed: "asyncio.Future[None]"


PretendedBatcher = Batcher[PretendedConnection, int, Result]


class PretendedDatabase:
    """Results sets of numbers, and remembers them."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []  # every one that was sent
        self.tokens: list[bytes] = []  # under which they were sent
        self.done: list[int] = []  # every member of a batch that was run to its end
        self.refused: set[int] = set()  # members that a whole batch fails for
        self.respond: Callable[[Sequence[int]], Results] = lambda members: [Result(member) for member in members]
        self.blocks = False  # whether batches stay in flight
        self.in_flight: list[BatchInFlight] = []
        self.attempts = 0
        self.open: list[PretendedConnection] = []
        self.error: Exception | None = None  # why nobody can connect
        self.doors: asyncio.Event | None = None  # connecting takes until it is set

    def closed_batcher(
        self, limits: Limits = BOUNDS, connections: int = 1, **choices: Any
    ) -> tuple[BatchConnections[PretendedConnection], PretendedBatcher]:
        """Make a pool of connections to it, and a batcher that may use all of them at once."""
        borrowed = BatchConnections("pretended", self.connect, connections, slow_max=connections)
        return borrowed, Batcher("pretended", borrowed, self.run, limits, in_flight_max=connections, **choices)

    @asynccontextmanager
    async def batcher(
        self, limits: Limits = BOUNDS, connections: int = 1, **choices: Any
    ) -> AsyncIterator[PretendedBatcher]:
        """Open a batcher on it; whatever a test finds there, it ends."""
        borrowed, batcher = self.closed_batcher(limits, connections, **choices)
        async with asyncio.timeout(LIMIT_S), borrowed:
            try:
                yield batcher
            except BaseException:
                self.let_go()
                raise

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[PretendedConnection]:
        """Connect, and disconnect on leaving."""
        self.attempts += 1
        await asyncio.sleep(0)
        if self.doors is not None:
            await self.doors.wait()
        if self.error is not None:
            raise self.error
        connection = PretendedConnection()
        self.open.append(connection)
        try:
            yield connection
        finally:
            self.open.remove(connection)

    async def run(self, connection: PretendedConnection, members: Sequence[int], token: bytes) -> Results:
        """Run a batch, as soon as it may land."""
        self.batches.append(list(members))
        self.tokens.append(token)
        if self.blocks:
            self.in_flight.append(BatchInFlight(connection, asyncio.get_running_loop().create_future()))
            await self.in_flight[-1].landed
        else:
            await asyncio.sleep(0)
        if self.refused.intersection(members):
            raise InvalidValue(f"not with {self.refused.intersection(members)}")
        self.done += members
        return self.respond(members)

    def land(self) -> None:
        """Let the oldest batch in flight have its results."""
        self.in_flight.pop(0).landed.set_result(None)

    def crash(self, loss: DatabaseError | None = None) -> None:
        """Lose the connection of the oldest batch in flight, and with it its results."""
        connection, landed = self.in_flight.pop(0)
        connection.lose()
        landed.set_exception(loss or OutcomeUnknown("the connection was lost"))

    def let_go(self) -> None:
        """Let every batch have its results, from now on at once."""
        self.blocks = False
        if self.doors is not None:
            self.doors.set()
        while self.in_flight:
            self.land()


async def send(database: PretendedDatabase, batcher: PretendedBatcher, *members: int) -> "list[asyncio.Future[Result]]":
    """Put members in flight, so that arrivals queue."""
    database.blocks = True
    before = len(database.in_flight)
    waiters = [batcher.submit(member) for member in members]
    await until(lambda: len(database.in_flight) > before)
    return waiters


def refusal(batcher: PretendedBatcher, member: int) -> type[DatabaseError] | None:
    """Return how an arrival is refused at once; None if it may wait."""
    try:
        batcher.submit(member).cancel()
    except DatabaseError as error:
        return type(error)
    return None


async def outcomes(waiters: "Sequence[asyncio.Future[Result]]") -> list[int | type[BaseException]]:
    """Wait for all, and return the member of each, or the type of its exception."""
    async with asyncio.timeout(LIMIT_S):
        results = await asyncio.gather(*waiters, return_exceptions=True)
    return [type(result) if isinstance(result, BaseException) else result.member for result in results]
