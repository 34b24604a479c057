"""Every error of the database layer that a caller can see."""

from collections.abc import Sequence
from datetime import datetime


class DatabaseError(Exception):
    """The root of every error below."""


class NotFound(DatabaseError):
    """No row has one of these ids."""

    def __init__(self, ids: Sequence[int]) -> None:
        super().__init__("no item has the id " + ", ".join(map(str, ids)))
        self.ids = tuple(ids)


class VersionMismatch(DatabaseError):
    """A row is no longer at the version its caller expected."""

    def __init__(self, ids: Sequence[int]) -> None:
        super().__init__("the version has moved on for the id " + ", ".join(map(str, ids)))
        self.ids = tuple(ids)


class Conflict(DatabaseError):
    """A unique or foreign key stands against the write; nothing was changed."""


class InvalidValue(DatabaseError):
    """A check constraint or a data type stands against the write; nothing was changed."""


class TimedOut(DatabaseError):
    """It took too long to be waited for any further; nothing was changed."""


class Overloaded(DatabaseError):
    """A bound on waiting work is reached; the statement was not sent."""


class Unavailable(DatabaseError):
    """The database cannot be reached, or could not run this; nothing was changed."""


class ConnectionLost(Unavailable):
    """Nothing was changed: the connection was lost before a commit, or the commit was found not to have happened."""


class SerializationFailure(Unavailable):
    """Others were in the way, and the transaction was rolled back: the same again may succeed."""


class StorageFull(Unavailable):
    """The database has no room left on its disk; nothing was changed."""


class SchemaMismatch(Unavailable):
    """The schema is not the one that a statement was written for."""


class NoSuchRevision(DatabaseError):
    """There is no such revision of the schema, or no way to it from where the schema is; nothing was changed."""


class OutcomeUnknown(DatabaseError):
    """A write may have been committed, or may be lost in a failover, and nothing could be found out in time.

    Its connection was lost, or no synchronous standby has confirmed its commit.
    """


class DuplicateWrite(DatabaseError):
    """An earlier attempt at the same write, under the same token, has happened: when, and which ids it touched."""

    def __init__(self, ids: Sequence[int], written_at: datetime) -> None:
        super().__init__("this was written before")
        self.ids = tuple(ids)
        self.written_at = written_at


class KeyInUse(DatabaseError):
    """A write under the same idempotency key is not finished."""


class KeyReused(DatabaseError):
    """The idempotency key belongs to another write."""


# PostgreSQL's SQLSTATE codes, or their first two digits: a class (PostgreSQL documentation, appendix A).
SQLSTATES: dict[str, type[DatabaseError]] = {
    "23505": Conflict,
    "23503": Conflict,
    "23P01": Conflict,
    "23502": InvalidValue,
    "23514": InvalidValue,
    "22": InvalidValue,
    "55P03": TimedOut,
    "57014": TimedOut,
    "40": SerializationFailure,  # a deadlock or a serialization failure
    "0A000": SerializationFailure,  # a cached plan whose result has another type since a table was changed
    "42P01": SchemaMismatch,  # no such table
    "42703": SchemaMismatch,  # no such column
    "28": Unavailable,
    "3D": Unavailable,
    "53100": StorageFull,
    "53": Unavailable,
    "58": Unavailable,  # its disk, or its system
}

# SQLite's result codes, extended ones first (sqlite.org/rescode.html).
SQLITE_CODES: dict[int, type[DatabaseError]] = {
    275: InvalidValue,  # CONSTRAINT_CHECK
    1299: InvalidValue,  # CONSTRAINT_NOTNULL
    19: Conflict,  # CONSTRAINT, any other
    18: InvalidValue,  # TOOBIG
    20: InvalidValue,  # MISMATCH
    25: InvalidValue,  # RANGE
    9: TimedOut,  # INTERRUPT
    5: Unavailable,  # BUSY
    6: Unavailable,  # LOCKED
    7: Unavailable,  # NOMEM
    8: Unavailable,  # READONLY
    10: Unavailable,  # IOERR
    11: Unavailable,  # CORRUPT
    13: StorageFull,
    14: Unavailable,  # CANTOPEN
    15: Unavailable,  # PROTOCOL
    26: Unavailable,  # NOTADB
}

# The server said that this connection ends, or is of no more use: 08 connection, 25006 read only (a demoted primary),
# 57P0x shutdown. What was in flight may or may not have happened.
READ_ONLY = "25006"
LOST = ("08", READ_ONLY, "57P0")


def sqlstate_of(error: BaseException) -> str | None:
    """Return PostgreSQL's code of an error; one of SQLAlchemy's may have it in its cause alone: a cached plan's has."""
    codes = [getattr(one, "sqlstate", None) for one in (error, error.__cause__)]
    return next(filter(None, codes), None)


def is_demoted(error: BaseException) -> bool:
    """Whether a server said that it takes no writes: it is no primary, or none any more."""
    return sqlstate_of(error) == READ_ONLY


def is_undone(error: BaseException) -> bool:
    """Whether a server said that it did not do a statement, which is then so even if the connection is lost.

    An ERROR stands in place of what was asked for; FATAL and PANIC may come after it. PgBouncer, whose code is 08P01,
    calls a server that is lost an ERROR, too.
    """
    # SQLAlchemy's errors have the code only, and the driver's own error as their cause.
    errors = [error, error.__cause__]
    sqlstate = sqlstate_of(error) or "08"
    return any(getattr(one, "severity_en", None) == "ERROR" for one in errors) and not sqlstate.startswith("08")


def error_class(error: BaseException) -> type[DatabaseError] | None:
    """Find the word for a driver's error by its code; None if it has none, or if the connection is lost."""
    sqlstate = sqlstate_of(error)
    if sqlstate:
        return SQLSTATES.get(sqlstate) or SQLSTATES.get(sqlstate[:2])
    code = getattr(error, "sqlite_errorcode", None)
    if code:
        return SQLITE_CODES.get(code) or SQLITE_CODES.get(code & 0xFF)
    return None


def is_connection_lost(error: BaseException) -> bool:
    """Whether an error says that the connection it came from is lost."""
    sqlstate = sqlstate_of(error)
    return sqlstate.startswith(LOST) if sqlstate else isinstance(error, OSError | TimeoutError)
