"""The server that takes writes: found among several, and left by every connection once another one is found."""

import asyncio
from collections.abc import Callable, MutableSequence, Sequence
from typing import Any, NamedTuple, Self

import asyncpg

from db.engines.replication import ConfirmedConnection, cancel_and_close
from db.engines.url import Host
from db.errors import is_connection_lost, is_demoted

Driver = ConfirmedConnection
Callback = Callable[[], None]

# What a server can be asked to be. Not prefer-standby: it takes a look at every host before the first is good enough.
TARGETS = ("any", "primary", "read-only", "read-write", "standby")
# Of these there is one at a time, so that whoever finds another has to leave the one before.
SINGLE = {"primary", "read-write"}
WATCH_S = 0.2  # how often a worker looks whether another worker has found another server
# The timeline is the first 8 hexadecimal digits of the name of the log file that is being written: the control file has
# the old one until a checkpoint is done after a promotion (findings/promoted-timeline.sh). In recovery no log is
# written, and pg_current_wal_lsn() raises: 0, which is behind every primary of the cluster.
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
    """One run of one server, whatever the name or address that it was reached by; a restart makes another.

    A standby that is promoted begins a timeline, so that of two servers of one cluster the one with the higher timeline
    is the newer primary. All three fit 64 bits together.
    """

    cluster: int  # 16 bits, of its system identifier
    timeline: int  # 16 bits
    started: int  # in seconds since 1970

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


class LatestPrimary:
    """The server that any worker of a service found last, and its host: two words of 64 bits that the workers share.

    There is no lock, as a worker that is killed would keep it. Each word is stored whole; `server` is stored only where
    it changes, so that who reconnects never undoes what another worker has found; `host` only says where to look first.
    """

    def __init__(self, words: MutableSequence[int] | None = None) -> None:
        self._words: MutableSequence[int] = words or [0, 0]

    @property
    def server(self) -> int:
        """The server, packed; 0 if none was found yet."""
        return self._words[0]

    @property
    def host(self) -> int:
        """The number of its host among the URL's."""
        return self._words[1]

    def store(self, server: int, host: int) -> None:
        """Let all workers know of another server."""
        self._words[1] = host
        self._words[0] = server


class HostSelector:
    """The connections to one of several hosts, the first that is what is wanted.

    As in libpq, a host that cannot be reached or is not `target` is passed over, and one that refuses the password is
    not. PostgreSQL 14 says by itself what it is; an older one is asked, which is one round trip for each connection.

    Where there is one such server at a time, each connection asks which it leads to, in one round trip more. If that is
    another than the last one found, all that lead elsewhere are ended: the one before may be frozen, or cut off, or
    take itself for the primary still.
    """

    def __init__(
        self, hosts: Sequence[Host], target: str, timeout_s: float, shared: MutableSequence[int] | None = None
    ) -> None:
        self._hosts = list(enumerate(hosts))
        self._target = target
        self._timeout_s = timeout_s
        self._latest = LatestPrimary(shared)
        self._server = self._latest.server  # packed: where the connections in _callbacks lead to
        self._demotions = 0
        self._callbacks: dict[Driver, list[Callback]] = {}
        self._finishing: set[Driver] = set()  # connections to a demoted server, until what they run has its outcome
        self._closing: set[asyncio.Task[None]] = set()
        self._watching: asyncio.TimerHandle | None = None

    async def connect(self, **arguments: Any) -> Driver:
        """Connect within the time limit, of which each host that is left has an equal share.

        Raises ConnectionError, also if the primary changed in the meantime.
        """
        before, demotions = self._latest.server, self._demotions
        host, driver, server = await self._reach(arguments)
        reached = server.pack() if server else before
        # Another connection may have found another server, or may have been told that this one takes no writes.
        if demotions != self._demotions or self._latest.server not in {before, reached}:
            driver.terminate()
            raise ConnectionError("the primary has moved in the meantime")
        if reached != before or host != self._latest.host:
            self._latest.store(reached, host)
        self._follow(reached)
        self._callbacks[driver] = []
        driver.is_current = lambda: self.holds(driver)
        driver.add_termination_listener(lambda _: self.forget(driver))
        return driver

    def holds(self, driver: Driver) -> bool:
        """Whether a connection is open, and leads to what is still taken for the primary."""
        return driver in self._callbacks and not driver.is_closed() and self._latest.server == self._server

    def watch(self, driver: Driver, callback: Callback) -> None:
        """Call back, maybe more than once, when a connection is ended, or is to be ended by its user after its work."""
        driver.add_termination_listener(lambda _: callback())
        if driver in self._callbacks:
            self._callbacks[driver].append(callback)

    def note(self, driver: Driver, error: BaseException) -> None:
        """Leave the server if an error says that it takes no writes: no other connection may go on reading from it.

        Connections that are watched finish what they run, so that its outcome is known, and are closed by their users.
        """
        if is_demoted(error) and driver in self._callbacks and self._target != "any":
            self._demotions += 1
            self._leave(terminate_busy=False)

    def forget(self, driver: Driver) -> None:
        """Hold a connection no more: it is of no use, and is its user's to discard."""
        self._callbacks.pop(driver, None)
        self._finishing.discard(driver)

    def discard(self, driver: Driver) -> None:
        """Close a connection, while others go on; what it still does, its server is told to give up."""
        self.forget(driver)
        task = asyncio.get_running_loop().create_task(cancel_and_close(driver))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all connections that are left, at the same time: of a silent server, each may take its limit."""
        if self._watching is not None:
            self._watching.cancel()
        for driver in list(self._callbacks):
            self.discard(driver)
        await asyncio.gather(*self._closing)

    def _follow(self, server: int) -> None:
        """Take a server for the primary, and end every connection that leads elsewhere, busy ones too."""
        if server != self._server:
            self._server = server
            self._leave(terminate_busy=True)
        if self._watching is None:
            self._watch()

    def _watch(self) -> None:
        """Leave a server that another worker of the service has left, also with what waits for its answer."""
        if self._latest.server != self._server:
            self._leave(terminate_busy=True)
        self._watching = asyncio.get_running_loop().call_later(WATCH_S, self._watch)

    def _leave(self, *, terminate_busy: bool) -> None:
        left, self._callbacks = self._callbacks, {}
        for driver, callbacks in list(left.items()):
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
        # The one that was found last comes first.
        hosts, faults = sorted(self._hosts, key=lambda one: one[0] != self._latest.host), []
        now = asyncio.get_running_loop().time
        deadline = now() + self._timeout_s
        for passed, (number, host) in enumerate(hosts):
            try:
                async with asyncio.timeout((deadline - now()) / (len(hosts) - passed)):
                    return number, *await self._open(host, arguments)
            except asyncpg.TargetServerAttributeNotMatched:
                faults.append(f"{host} is not {self._target}")
            except Exception as error:
                if len(hosts) == 1 or not is_connection_lost(error):
                    raise
                faults.append(f"{host}: {str(error) or type(error).__name__}")
        raise ConnectionError("; ".join(faults))

    async def _open(self, host: Host, arguments: dict[str, Any]) -> tuple[Driver, Server | None]:
        """Connect to a host. Raises ConnectionError if another server has taken the place of the one there."""
        place = {"host": host.name, "port": host.port, "target_session_attrs": self._target}
        try:
            driver: Driver = await asyncpg.connect(**{**arguments, **place}, connection_class=ConfirmedConnection)
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
        server, latest = Server.of(*row.values()), Server.unpack(self._latest.server)
        if server.is_behind(latest):
            raise ConnectionError(f"its timeline is {server.timeline}, and {latest.timeline} was reached before")
        return server
