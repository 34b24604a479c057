"""The server that takes writes: found among several, and left by every connection once it takes none any more."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import asyncpg

from db.errors import means_demoted, means_lost
from db.hosts import Host

Driver: TypeAlias = "asyncpg.Connection[Any]"
Callback: TypeAlias = Callable[[], None]

# What a server can be asked to be. Not prefer-standby: it takes a look at every host before the first is good enough.
TARGETS = ("any", "primary", "read-only", "read-write", "standby")


class Primary:
    """The connections to one of several hosts, the first that is what is wanted.

    As in libpq, a host that cannot be reached or is not `target` is passed over, and one that refuses the password is
    not. PostgreSQL 14 says by itself what it is; an older one is asked, which is one round trip for each connection.
    """

    def __init__(self, hosts: Sequence[Host], target: str, timeout_s: float) -> None:
        self._hosts = list(hosts)
        self._target = target
        self._timeout_s = timeout_s
        self._callbacks: dict[Driver, list[Callback]] = {}

    async def connect(self, **arguments: Any) -> Driver:
        """Connect within the time limit, of which each host that is left has an equal share."""
        callbacks = self._callbacks  # of now: it may be left before we are there
        driver = await self._reach(arguments)
        callbacks[driver] = []
        driver.add_termination_listener(partial(_forget, callbacks))
        return driver

    def holds(self, driver: Driver) -> bool:
        """Whether a connection is open, and leads to what is still taken for the primary."""
        return driver in self._callbacks and not driver.is_closed()

    def watch(self, driver: Driver, callback: Callback) -> None:
        """Call back as soon as a connection is not held any more; it is then the caller's to close."""
        driver.add_termination_listener(lambda _: callback())
        if driver in self._callbacks:
            self._callbacks[driver].append(callback)

    def note(self, driver: Driver, error: BaseException) -> None:
        """Leave the server if a connection's error says that it is no primary: no other may go on reading from it.

        Who watches a connection ends it after what it is doing, which so has an answer; the others are ended.
        """
        if not means_demoted(error) or driver not in self._callbacks or self._target == "any":
            return
        left, self._callbacks = self._callbacks, {}
        for one, callbacks in list(left.items()):
            for callback in callbacks:
                callback()
            if not callbacks:
                one.terminate()

    async def _reach(self, arguments: dict[str, Any]) -> Driver:
        hosts, faults = list(self._hosts), []
        now = asyncio.get_running_loop().time
        deadline = now() + self._timeout_s
        for passed, host in enumerate(hosts):
            share_s = (deadline - now()) / (len(hosts) - passed)
            place = {"host": host.name, "port": host.port, "target_session_attrs": self._target, "timeout": share_s}
            try:
                driver: Driver = await asyncpg.connect(**{**arguments, **place})
            except asyncpg.TargetServerAttributeNotMatched:
                faults.append(ConnectionError(f"{host} is not {self._target}"))
            except Exception as error:
                if len(hosts) == 1 or not means_lost(error):
                    raise
                faults.append(ConnectionError(f"{host}: {str(error) or type(error).__name__}"))
            else:
                self._hosts.sort(key=lambda one: one != host)  # at once; others now begin with this one
                return driver
        raise ConnectionError("; ".join(map(str, faults)))


def _forget(callbacks: dict[Driver, list[Callback]], driver: Driver) -> None:
    callbacks.pop(driver, None)
