"""Failover: find the server that takes writes among several, and leave it on every connection for a newer one."""

import asyncio
from collections.abc import Callable, MutableSequence, Sequence
from typing import Any, NamedTuple, Self

import asyncpg

from db.engines.connector import Connector
from db.engines.database import Options
from db.engines.replication import ConfirmedConnection
from db.engines.single_flight import SingleFlight
from db.engines.url import Host
from db.errors import is_connection_lost, is_demoted
from db.observer import Event

Driver = ConfirmedConnection
Callback = Callable[[], None]

# The values of target_session_attrs. Not prefer-standby, which has to try every host before it accepts the first.
TARGETS = ("any", "primary", "read-only", "read-write", "standby")
# Only one server at a time is one of these: a connection that finds another makes all leave the one before.
SINGLE_SERVER_TARGETS = {"primary", "read-write"}
WATCH_INTERVAL_S = 0.2  # between two looks at whether another worker has found another server
# The two integers of the latest primary that any worker of a service has found, 64 bits each, in shared memory: the
# packed server, 0 before one is found, and the index of its host among those of the URL, which is only where to try
# first. There is no lock, as a worker that is killed would keep it. Each is stored whole, and the server only if it
# changes, so that a reconnection never undoes what another worker has found.
SERVER, HOST = 0, 1
# The timeline is the first 8 hexadecimal digits of the name of the log file that is being written: the control file has
# the old one until a checkpoint is done after a promotion (findings/promoted-timeline.sh). In recovery no log is
# written, and pg_current_wal_lsn() raises: 0, which is behind every primary of the cluster.
IDENTIFY = """
    SELECT pg_backend_pid(), system_identifier,
        CASE WHEN NOT pg_is_in_recovery()
            THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int ELSE 0 END,
        extract(epoch FROM pg_postmaster_start_time())::bigint
    FROM pg_control_system()
"""
# SQLSTATE classes of a server that only speaks PostgreSQL's protocol, or denies access to IDENTIFY: "syntax error or
# access rule violation", "feature not supported". Any other error, such as a timeout, does not show what it supports.
UNSUPPORTED = ("42", "0A")


class Server(NamedTuple):
    """The identity of one run of a server, whatever name or address it was reached by; a restart makes another.

    A standby that is promoted begins a timeline, so of two servers of one cluster the one with the higher timeline is
    the newer primary. The three fields fit 64 bits together.
    """

    cluster: int  # 16 bits, of its system identifier
    timeline: int  # 16 bits
    started: int  # in seconds since 1970

    @classmethod
    def of(cls, system_identifier: int, timeline: int, started: int) -> Self:
        """Return the identity from the columns of IDENTIFY, but the first."""
        folded = (system_identifier >> 32) ^ system_identifier
        return cls((folded >> 16 ^ folded) & 0xFFFF, timeline & 0xFFFF, started & 0xFFFFFFFF)

    @classmethod
    def unpack(cls, number: int) -> Self:
        """Return the server that `pack` returned as a number."""
        return cls(number >> 48, number >> 32 & 0xFFFF, number & 0xFFFFFFFF)

    def pack(self) -> int:
        """Return the server as an unsigned number of 64 bits."""
        return self.cluster << 48 | self.timeline << 32 | self.started

    def is_behind(self, other: "Server") -> bool:
        """Return whether the other server is of the same cluster and was promoted later."""
        return self.cluster == other.cluster and self.timeline < other.timeline


class HostSelector:
    """Connects to the first of several hosts that has the state `target`, and tracks these connections.

    As in libpq, a host that cannot be reached or has another state is passed over, and one that refuses the password is
    not. PostgreSQL 14 reports its state unasked; an older server is queried, one round trip for each connection.

    For a target that only one server has at a time, each connection identifies its server, in one more round trip. If
    that is not the last one found, every connection to any other is closed: the previous server may be frozen, or cut
    off, or still take itself for the primary.
    """

    def __init__(
        self,
        hosts: Sequence[Host],
        target: str,
        connector: Connector,
        options: Options,
    ) -> None:
        self._hosts = list(enumerate(hosts))
        self._target = target
        self._timeout_s = options.connect_timeout_ms / 1000
        self._connector = connector
        self._observer = options.observer
        self._latest: MutableSequence[int] = options.latest_primary or [0, 0]
        self._server = self._latest[SERVER]  # packed: that of the connections in _callbacks
        self._demotions = 0
        self._single_flight = SingleFlight()
        self._callbacks: dict[Driver, list[Callback]] = {}
        self._finishing: set[Driver] = set()  # connections to a demoted server, until their statement has its outcome
        self._closing: set[asyncio.Task[None]] = set()
        self._watching: asyncio.TimerHandle | None = None

    async def connect(self, **arguments: Any) -> Driver:
        """Return a connection; every host that is not tried yet has an equal share of the time left.

        Raises ConnectionError if no host has the target, or if the primary changed meanwhile.
        """
        try:
            driver = await self._connect(arguments)
        except Exception:
            self._observer.happened(Event.CONNECT_FAILED)
            raise
        self._observer.happened(Event.CONNECTED)
        return driver

    async def _connect(self, arguments: dict[str, Any]) -> Driver:
        async with self._single_flight.attempt():
            before, demotions = self._latest[SERVER], self._demotions
            host, driver, server = await self._reach(arguments)
        reached = server.pack() if server else before
        # Meanwhile another connection may have found another server, or an error that this one takes no writes.
        if demotions != self._demotions or self._latest[SERVER] not in {before, reached}:
            driver.terminate()
            raise ConnectionError("the primary has moved in the meantime")
        if reached != before or host != self._latest[HOST]:
            self._latest[HOST], self._latest[SERVER] = host, reached
        self._follow(reached)
        self._callbacks[driver] = []
        driver.is_current = lambda: self.is_usable(driver)
        driver.add_termination_listener(lambda _: self.forget(driver))
        return driver

    def is_usable(self, driver: Driver) -> bool:
        """Return whether a connection is open, and its server is still the latest primary found."""
        return driver in self._callbacks and not driver.is_closed() and self._latest[SERVER] == self._server

    def watch(self, driver: Driver, callback: Callback) -> None:
        """Call `callback`, maybe more than once, when a connection is closed, or is to be closed after its work."""
        driver.add_termination_listener(lambda _: callback())
        if driver in self._callbacks:
            self._callbacks[driver].append(callback)

    def note(self, driver: Driver, error: BaseException) -> None:
        """Leave the server if an error shows that it takes no writes: no connection may continue to read from it.

        Connections that are watched finish their statement, so that its outcome is known; their users close them.
        """
        if is_demoted(error) and driver in self._callbacks and self._target != "any":
            self._demotions += 1
            self._leave(terminate_busy=False)

    def forget(self, driver: Driver) -> None:
        """Stop tracking a connection, which is not usable any more; its user closes it."""
        self._callbacks.pop(driver, None)
        self._finishing.discard(driver)

    def discard(self, driver: Driver) -> None:
        """Close a connection in the background, and cancel on its server the statement that it still runs."""
        self.forget(driver)
        task = asyncio.get_running_loop().create_task(driver.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all connections at the same time: if the server does not respond, each takes up to its time limit."""
        if self._watching is not None:
            self._watching.cancel()
        for driver in list(self._callbacks):
            self.discard(driver)
        await asyncio.gather(*self._closing)

    def _follow(self, server: int) -> None:
        """Take a server for the primary, and close every connection to another, busy ones too."""
        if server != self._server:
            self._server = server
            self._leave(terminate_busy=True)
        if self._watching is None:
            self._watch()

    def _watch(self) -> None:
        """Leave a server that another worker of the service has left, even where a statement waits for its result."""
        if self._latest[SERVER] != self._server:
            self._leave(terminate_busy=True)
        self._watching = asyncio.get_running_loop().call_later(WATCH_INTERVAL_S, self._watch)

    def _leave(self, *, terminate_busy: bool) -> None:
        leaving, self._callbacks = self._callbacks, {}
        for driver, callbacks in list(leaving.items()):
            if terminate_busy or not callbacks:
                driver.terminate()
            else:
                self._finishing.add(driver)
            for callback in callbacks:
                callback()
        if terminate_busy:
            for driver in list(self._finishing):
                driver.terminate()

    async def _reach(self, arguments: dict[str, Any]) -> tuple[int, Driver, Server | None]:
        # The host of the latest primary comes first.
        hosts, errors = sorted(self._hosts, key=lambda host: host[0] != self._latest[HOST]), []
        now = asyncio.get_running_loop().time
        deadline = now() + self._timeout_s
        for tried, (number, host) in enumerate(hosts):
            try:
                async with asyncio.timeout((deadline - now()) / (len(hosts) - tried)):
                    return number, *await self._open(host, arguments)
            except asyncpg.TargetServerAttributeNotMatched:
                errors.append(f"{host} is not {self._target}")
            except Exception as error:
                if not is_connection_lost(error):
                    raise
                errors.append(f"{host}: {str(error) or type(error).__name__}")
        raise ConnectionError("; ".join(errors))

    async def _open(self, host: Host, arguments: dict[str, Any]) -> tuple[Driver, Server | None]:
        """Return a connection to a host, and its server. Raises ConnectionError if a newer primary was found before."""
        address = {"host": host.name, "port": host.port, "target_session_attrs": self._target}
        try:
            driver = await self._connector.connect(**{**arguments, **address})
        except ValueError as error:  # of the environment: a certificate that is not there, a PGPORT that is no number
            raise ConnectionError(str(error)) from error
        try:
            if self._target in SINGLE_SERVER_TARGETS:
                return driver, await self._identify(driver)
            await self._connector.check_direct(driver)
        except BaseException:
            driver.terminate()
            raise
        return driver, None

    async def _identify(self, driver: Driver) -> Server | None:
        """Return the server of a connection, None if it is not identified.

        Raises ConnectionError if a newer primary was found before.
        """
        try:
            row = await driver.fetchrow(IDENTIFY)
        except asyncpg.PostgresError as error:
            self._connector.check_error(error)
            if error.sqlstate.startswith(UNSUPPORTED):
                await self._connector.check_direct(driver)
                return None
            raise ConnectionError(f"it cannot be identified: {error}") from error
        assert row is not None  # noqa: S101 - narrows the type: it is one
        process, *identity = row.values()
        self._connector.check_process(driver, process)
        server, latest = Server.of(*identity), Server.unpack(self._latest[SERVER])
        if server.is_behind(latest):
            raise ConnectionError(f"its timeline is {server.timeline}, and {latest.timeline} was reached before")
        return server
