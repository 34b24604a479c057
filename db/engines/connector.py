"""The opening of one connection by asyncpg: its user and password, its socket, and whether a pooler is in between."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

import asyncpg

from db.engines.replication import ConfirmedConnection
from db.errors import TooManyConnections, UnexpectedPooler

log = logging.getLogger(__name__)

# SQLSTATEs of a prepared statement that another client of a pooler made, or that was made on another connection of it.
POOLED = {"42P05", "26000"}
# PgBouncer's words for a setting that it does not carry to PostgreSQL, with the code of a protocol violation.
REFUSED_SETTING = "startup parameter"
NO_MORE = "no more connections allowed"  # PgBouncer's words for it
SILENCE_S_MIN = 1.0  # a packet that is lost, and sent again, is no silence


class Credentials(NamedTuple):
    """The user and the password of new connections; None is what the driver finds in its own environment."""

    user: str | None
    password: str | None

    def __repr__(self) -> str:
        """Show no password."""
        return f"Credentials(user={self.user!r})"


class Connector:
    """Opens connections; those whose server goes silent are found lost within `silence_s`, idle or not, or 1 s.

    If the server refuses a connection, `reread` is called, in a thread, for the user and the password that may be valid
    by now. It raises OSError or ValueError, whose text says why there are none.
    """

    def __init__(self, silence_s: float, reread: Callable[[], Credentials] | None = None, *, direct: bool) -> None:
        self._silence_s = silence_s
        self._reread = reread
        self._direct = direct
        self._current: Credentials | None = None  # that were read anew, and accepted

    async def connect(self, **arguments: Any) -> ConfirmedConnection:
        """Return a connection. Raises the driver's errors, TooManyConnections and UnexpectedPooler."""
        if self._current is not None:
            arguments.update(self._current._asdict())
        try:
            driver = await self._open(arguments)
        except asyncpg.PostgresError as refusal:
            driver = await self._open_with_new_credentials(arguments, refusal)
        _limit_silence(driver, max(self._silence_s, SILENCE_S_MIN))
        return driver

    async def check_direct(self, driver: ConfirmedConnection) -> None:
        """Raise UnexpectedPooler if a connection leads to a pooler, where it should lead to PostgreSQL itself."""
        if self._direct:
            try:
                self.check_process(driver, await driver.fetchval("SELECT pg_backend_pid()"))
            except asyncpg.PostgresError as error:
                self.check_error(error)

    def check_process(self, driver: ConfirmedConnection, id: int) -> None:
        """Raise UnexpectedPooler if the process that runs statements is not the one that the connection was made to."""
        if self._direct and id > 0 and id != driver.get_server_pid():
            raise UnexpectedPooler

    def check_error(self, error: asyncpg.PostgresError) -> None:
        """Raise UnexpectedPooler if the error of a statement shows one."""
        if self._direct and error.sqlstate in POOLED:
            raise UnexpectedPooler from None

    async def _open(self, arguments: dict[str, Any]) -> ConfirmedConnection:
        try:
            driver: ConfirmedConnection = await asyncpg.connect(**arguments, connection_class=ConfirmedConnection)
        except asyncpg.PostgresError as refusal:
            if isinstance(refusal, asyncpg.TooManyConnectionsError) or NO_MORE in str(refusal):
                raise TooManyConnections(f"{arguments.get('host') or 'the default host'}: {refusal}") from None
            self._check_setting(refusal)
            raise
        return driver

    def _check_setting(self, refusal: asyncpg.PostgresError) -> None:
        if self._direct and isinstance(refusal, asyncpg.ProtocolViolationError) and REFUSED_SETTING in str(refusal):
            raise UnexpectedPooler from None

    async def _open_with_new_credentials(
        self, arguments: dict[str, Any], refusal: asyncpg.PostgresError
    ) -> ConfirmedConnection:
        """Return a connection with credentials read anew; raise the refusal if there are no others.

        The ones before stay in use until others are accepted: the file may be rewritten before the password is changed.
        """
        if self._reread is None:
            raise refusal
        try:
            credentials = await asyncio.to_thread(self._reread)
        except (OSError, ValueError) as error:
            raise type(refusal)(f"{refusal}; {error}") from refusal
        if credentials == (arguments.get("user"), arguments.get("password")):
            raise refusal
        driver = await self._open({**arguments, **credentials._asdict()})
        log.info("the user and password were read anew, as the ones before were refused")
        self._current = credentials
        return driver


def _limit_silence(driver: ConfirmedConnection, limit_s: float) -> None:
    """Have the kernel end a connection whose other end has acknowledged nothing for so long.

    It asks an idle one for a sign of life twice in that time, once a second at the most (tcp(7)). Systems without these
    options, which are Linux's, find out by the time limit of the next statement.
    """
    driver_insides: Any = driver
    connection = driver_insides._transport.get_extra_info("socket")  # noqa: SLF001 - there is no other way to it
    if connection is None or connection.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    interval_s = max(1, int(limit_s / 2))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    values = {
        "TCP_KEEPIDLE": interval_s,
        "TCP_KEEPINTVL": interval_s,
        "TCP_KEEPCNT": 2,
        "TCP_USER_TIMEOUT": max(1, int(limit_s * 1000)),  # in milliseconds
    }
    for name, value in values.items():
        if (option := getattr(socket, name, None)) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
