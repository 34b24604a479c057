"""The server that takes writes: found among several, and left by every connection once another one is found."""

import asyncio
from collections.abc import Callable, MutableSequence, Sequence
from typing import Any, NamedTuple, Self

import asyncpg

from db.errors import means_demoted, means_lost
from db.hosts import Host
from db.replication import ReplicatedConnection, cancel_and_close

Driver = ReplicatedConnection
Callback = Callable[[], None]

# What a server can be asked to be. Not prefer-standby: it takes a look at every host before the first is good enough.
TARGETS = ("any", "primary", "read-only", "read-write", "standby")
# Of these there is one at a time, so that whoever finds another has to leave the one before.
SINGLE = {"primary", "read-write"}
WATCH_S = 0.2  # how often another worker’s word is looked for
IDENTIFY = """
    SELECT system_identifier,
        CASE WHEN NOT pg_is_in_recovery()
            THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int ELSE 0 END,
        extract(epoch FROM pg_postmaster_start_time())::bigint
    FROM pg_control_system()
"""
# SQLSTATE classes of a server that is PostgreSQL's by its protocol only, or may not be asked: "syntax error or access
# rule violation", "feature not supported". Any other error, such as a timeout, says nothing of what it knows.
UNKNOWN_TO_IT = ("42", "0A")


class Server(NamedTuple):
    """Which server a connection leads to, whatever the name or address it was reached by.

    A standby that is promoted begins a timeline, so that of two servers of one cluster the one with the higher timeline
    is the newer primary. All three fit 64 bits together, which processes can share without a lock.
    """

    cluster: int  # 16 bits, of its system identifier
    timeline: int  # 16 bits
    started: int  # in seconds of 1970; it tells servers apart

    @classmethod
    def of(cls, system_identifier: int, timeline: int, started: int) -> Self:
        """Make one from what a server says of itself."""
        folded = (system_identifier >> 32) ^ system_identifier
        return cls((folded >> 16 ^ folded) & 0xFFFF, timeline & 0xFFFF, started & 0xFFFFFFFF)

    @classmethod
    def unpack(cls, number: int) -> Self:
        """Return the server that `pack` made a number of."""
        return cls(number >> 48, number >> 32 & 0xFFFF, number & 0xFFFFFFFF)

    def pack(self) -> int:
        """Return the server as an unsigned number of 64 bits."""
        return self.cluster << 48 | self.timeline << 32 | self.started

    def is_behind(self, other: "Server") -> bool:
        """Whether this is what another server of the same cluster was promoted in place of."""
        return self.cluster == other.cluster and self.timeline < other.timeline


class Primary:
    """The connections to one of several hosts, the first that is what is wanted.

    As in libpq, a host that cannot be reached or is not `target` is passed over, and one that refuses the password is
    not. PostgreSQL 14 says by itself what it is; an older one is asked, which is one round trip for each connection.

    Where there is one such server at a time, each connection asks which it leads to. If that is another than the last
    one found, all that lead elsewhere are ended: the one before may be frozen, or cut off, or take itself for the
    primary still. `found` is what all workers of a service share: the packed Server, and the number of its host.
    """

    def __init__(
        self, hosts: Sequence[Host], target: str, timeout_s: float, found: MutableSequence[int] | None = None
    ) -> None:
        self._hosts = list(enumerate(hosts))
        self._target = target
        self._timeout_s = timeout_s
        self._found: MutableSequence[int] = found or [0, 0]
        self._has_others = found is not None
        self._followed = self._found[0]
        self._demotions = 0
        self._callbacks: dict[Driver, list[Callback]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._watching: asyncio.TimerHandle | None = None

    async def connect(self, **arguments: Any) -> Driver:
        """Connect within the time limit, of which each host that is left has an equal share."""
        found, demotions = self._found[0], self._demotions
        number, driver, server = await self._reach(arguments)
        now_found = server.pack() if server else found
        if demotions != self._demotions or self._found[0] not in {found, now_found}:
            driver.terminate()
            raise ConnectionError("the primary has moved in the meantime")
        self._follow(now_found, number)
        callbacks = self._callbacks
        callbacks[driver] = []
        driver.add_termination_listener(lambda _: _forget(driver, callbacks))
        return driver

    def holds(self, driver: Driver) -> bool:
        """Whether a connection is open, and leads to what is still taken for the primary."""
        return driver in self._callbacks and not driver.is_closed() and self._found[0] == self._followed

    def watch(self, driver: Driver, callback: Callback) -> None:
        """Call back as soon as a connection is not held any more; it is then the caller's to close."""
        driver.add_termination_listener(lambda _: callback())
        if driver in self._callbacks:
            self._callbacks[driver].append(callback)

    def note(self, driver: Driver, error: BaseException) -> None:
        """Leave the server if a connection's error says that it is no primary: no other may go on reading from it.

        Who watches a connection ends it after what it is doing, which so has an answer; the others are ended.
        """
        if means_demoted(error) and driver in self._callbacks and self._target != "any":
            self._demotions += 1
            self._leave(at_once=False)

    def forget(self, driver: Driver) -> None:
        """Hold a connection no more: it is of no use, and is its user's to discard."""
        self._callbacks.pop(driver, None)

    def discard(self, driver: Driver) -> None:
        """Close a connection, while others go on; what it still does, its server is told to give up."""
        self.forget(driver)
        task = asyncio.get_running_loop().create_task(cancel_and_close(driver))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Wait for the connections that are being closed."""
        if self._watching is not None:
            self._watching.cancel()
        await asyncio.gather(*self._closing)

    def _follow(self, found: int, number: int) -> None:
        """Take a server for the primary, and end every connection that leads elsewhere, busy ones too."""
        self._found[1] = number
        self._found[0] = found
        if found != self._followed:
            self._followed = found
            self._leave(at_once=True)
        if self._has_others and self._watching is None:
            self._watch()

    def _watch(self) -> None:
        """Leave a server that another worker of the service has left, also with what waits for its answer."""
        if self._found[0] != self._followed:
            self._leave(at_once=True)
        self._watching = asyncio.get_running_loop().call_later(WATCH_S, self._watch)

    def _leave(self, *, at_once: bool) -> None:
        left, self._callbacks = self._callbacks, {}
        for driver, callbacks in list(left.items()):
            if at_once or not callbacks:
                driver.terminate()
            for callback in callbacks:
                callback()

    async def _reach(self, arguments: dict[str, Any]) -> tuple[int, Driver, Server | None]:
        # The one that was found last comes first.
        hosts, faults = sorted(self._hosts, key=lambda one: one[0] != self._found[1]), []
        now = asyncio.get_running_loop().time
        deadline = now() + self._timeout_s
        for passed, (number, host) in enumerate(hosts):
            try:
                async with asyncio.timeout((deadline - now()) / (len(hosts) - passed)):
                    return number, *await self._open(host, arguments)
            except asyncpg.TargetServerAttributeNotMatched:
                faults.append(f"{host} is not {self._target}")
            except Exception as error:
                if len(hosts) == 1 or not means_lost(error):
                    raise
                faults.append(f"{host}: {str(error) or type(error).__name__}")
        raise ConnectionError("; ".join(faults))

    async def _open(self, host: Host, arguments: dict[str, Any]) -> tuple[Driver, Server | None]:
        """Connect to a host. Raises ConnectionError if another server has taken the place of the one there."""
        place = {"host": host.name, "port": host.port, "target_session_attrs": self._target}
        try:
            driver: Driver = await asyncpg.connect(**{**arguments, **place}, connection_class=ReplicatedConnection)
        except ValueError as error:  # of the environment: a certificate that is not there, a PGPORT that is no number
            raise ConnectionError(str(error)) from error
        try:
            return driver, await self._identify(driver) if self._target in SINGLE else None
        except BaseException:
            driver.terminate()
            raise

    async def _identify(self, driver: Driver) -> Server | None:
        """Return which server it is, None if it does not say. Raises ConnectionError if another has taken its place."""
        try:
            row = await driver.fetchrow(IDENTIFY)
        except asyncpg.PostgresError as error:
            if error.sqlstate.startswith(UNKNOWN_TO_IT):
                return None
            raise ConnectionError(f"it does not say which server it is: {error}") from error
        assert row is not None  # noqa: S101 - narrows the type: it is one
        server, latest = Server.of(*row.values()), Server.unpack(self._found[0])
        if server.is_behind(latest):
            raise ConnectionError(f"its timeline is {server.timeline}, and {latest.timeline} was reached before")
        return server


def _forget(driver: Driver, callbacks: dict[Driver, list[Callback]]) -> None:
    callbacks.pop(driver, None)
