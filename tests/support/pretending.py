"""A database without SQL that does what a test tells it: a batcher knows nothing else of one."""

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


class Answer:
    """What a member is answered with; each run makes its own."""

    def __init__(self, member: int) -> None:
        self.member = member


Answers = list[Answer | BaseException]


class PretendedConnection:
    """A connection that is lost when a test says so."""

    def __init__(self) -> None:
        self.closed = False
        self._callbacks: list[Callable[[], None]] = []

    def add_close_callback(self, callback: Callable[[], None]) -> None:
        """Remember whom to tell."""
        self._callbacks.append(callback)

    def lose(self) -> None:
        """Lose it; as with a driver, everyone is told a moment later."""
        self.closed = True
        for callback in self._callbacks:
            asyncio.get_running_loop().call_soon(callback)


class Flight(NamedTuple):
    """A set that was sent, and is not answered yet."""

    connection: PretendedConnection
    landed: "asyncio.Future[None]"


PretendedBatcher = Batcher[PretendedConnection, int, Answer]


class PretendedDatabase:
    """Answers sets of numbers, and remembers them."""

    def __init__(self) -> None:
        self.sets: list[list[int]] = []  # every one that was sent
        self.tokens: list[bytes] = []  # under which they were sent
        self.done: list[int] = []  # every member of a set that was run to its end
        self.refused: set[int] = set()  # members that a whole set fails for
        self.answer: Callable[[Sequence[int]], Answers] = lambda members: [Answer(member) for member in members]
        self.holds = False  # whether sets stay in flight
        self.flights: list[Flight] = []
        self.attempts = 0
        self.open: list[PretendedConnection] = []
        self.fault: Exception | None = None  # why nobody can connect
        self.doors: asyncio.Event | None = None  # connecting takes until it is set

    def closed_batcher(
        self, limits: Limits = BOUNDS, connections: int = 1, **choices: Any
    ) -> tuple[BatchConnections[PretendedConnection], PretendedBatcher]:
        """Make a set of connections to it, and a batcher that may use all of them at once."""
        borrowed = BatchConnections("pretended", self.connect, connections, writes_max=connections)
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
        if self.fault is not None:
            raise self.fault
        connection = PretendedConnection()
        self.open.append(connection)
        try:
            yield connection
        finally:
            self.open.remove(connection)

    async def run(self, connection: PretendedConnection, members: Sequence[int], token: bytes) -> Answers:
        """Run a set, as soon as it may land."""
        self.sets.append(list(members))
        self.tokens.append(token)
        if self.holds:
            self.flights.append(Flight(connection, asyncio.get_running_loop().create_future()))
            await self.flights[-1].landed
        else:
            await asyncio.sleep(0)
        if self.refused.intersection(members):
            raise InvalidValue(f"not with {self.refused.intersection(members)}")
        self.done += members
        return self.answer(members)

    def land(self) -> None:
        """Let the oldest set in flight be answered."""
        self.flights.pop(0).landed.set_result(None)

    def crash(self, loss: DatabaseError | None = None) -> None:
        """Lose the connection of the oldest set in flight, and with it the answer."""
        connection, landed = self.flights.pop(0)
        connection.lose()
        landed.set_exception(loss or OutcomeUnknown("the connection was lost"))

    def let_go(self) -> None:
        """Answer everything, from now on at once."""
        self.holds = False
        if self.doors is not None:
            self.doors.set()
        while self.flights:
            self.land()


async def send(database: PretendedDatabase, batcher: PretendedBatcher, *members: int) -> "list[asyncio.Future[Answer]]":
    """Put members in flight, so that arrivals queue."""
    database.holds = True
    flights = len(database.flights)
    waiters = [batcher.submit(member) for member in members]
    await until(lambda: len(database.flights) > flights)
    return waiters


def refusal(batcher: PretendedBatcher, member: int) -> type[DatabaseError] | None:
    """Return how an arrival is refused at once; None if it may wait."""
    try:
        batcher.submit(member).cancel()
    except DatabaseError as error:
        return type(error)
    return None


async def outcomes(waiters: "Sequence[asyncio.Future[Answer]]") -> list[int | type[BaseException]]:
    """Wait for all, and tell each one's member, or the kind of exception it got."""
    async with asyncio.timeout(LIMIT_S):
        results = await asyncio.gather(*waiters, return_exceptions=True)
    return [type(result) if isinstance(result, BaseException) else result.member for result in results]
