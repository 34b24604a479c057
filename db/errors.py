"""The words the database layer may say: every failure a caller can see is one of these."""

from collections.abc import Sequence


class DatabaseError(Exception):
    """The root of every word below."""


class NotFound(DatabaseError):
    """No row has one of these ids."""

    def __init__(self, ids: Sequence[int]) -> None:
        super().__init__("no item has the id " + ", ".join(map(str, ids)))
        self.ids = tuple(ids)


class Stale(DatabaseError):
    """A row is no longer at the version its caller expected."""

    def __init__(self, ids: Sequence[int]) -> None:
        super().__init__("the version has moved on for the id " + ", ".join(map(str, ids)))
        self.ids = tuple(ids)


class Conflict(DatabaseError):
    """A unique or foreign key stands against the write; nothing was changed."""


class Refused(DatabaseError):
    """A check constraint or a data type stands against the write; nothing was changed."""


class TimedOut(DatabaseError):
    """The database cancelled the statement at its time limit; nothing was changed."""


class Overloaded(DatabaseError):
    """A bound on waiting work is reached; the statement was not sent."""


class Unavailable(DatabaseError):
    """The database cannot be reached, or could not run this; nothing was changed."""


class Outdated(Unavailable):
    """The schema is not the one that a statement was written for."""


class NoSuchRevision(DatabaseError):
    """There is no such revision of the schema, or no way to it from where the schema is; nothing was changed."""


class OutcomeUnknown(DatabaseError):
    """The connection was lost while a write was in flight; it may have happened."""


# PostgreSQL's SQLSTATE codes, or their first two digits: a class (PostgreSQL documentation, appendix A).
SQLSTATES: dict[str, type[DatabaseError]] = {
    "23505": Conflict,
    "23503": Conflict,
    "23P01": Conflict,
    "23502": Refused,
    "23514": Refused,
    "22": Refused,
    "55P03": TimedOut,
    "57014": TimedOut,
    "40": Unavailable,  # a deadlock or a serialization failure: rolled back
    "42P01": Outdated,  # no such table
    "42703": Outdated,  # no such column
    "28": Unavailable,
    "3D": Unavailable,
    "53": Unavailable,
}

# SQLite's result codes, extended ones first (sqlite.org/rescode.html).
SQLITE_CODES: dict[int, type[DatabaseError]] = {
    275: Refused,  # CONSTRAINT_CHECK
    1299: Refused,  # CONSTRAINT_NOTNULL
    19: Conflict,  # CONSTRAINT, any other
    18: Refused,  # TOOBIG
    20: Refused,  # MISMATCH
    25: Refused,  # RANGE
    9: TimedOut,  # INTERRUPT
    5: Unavailable,  # BUSY
    6: Unavailable,  # LOCKED
    7: Unavailable,  # NOMEM
    8: Unavailable,  # READONLY
    10: Unavailable,  # IOERR
    11: Unavailable,  # CORRUPT
    13: Unavailable,  # FULL
    14: Unavailable,  # CANTOPEN
    15: Unavailable,  # PROTOCOL
    26: Unavailable,  # NOTADB
}

# The server said that this connection ends, or is of no more use: 08 connection, 25006 read only (a demoted primary),
# 57P0x shutdown. What was in flight may or may not have happened.
LOST = ("08", "25006", "57P0")


def word_for(error: BaseException) -> type[DatabaseError] | None:
    """Find the word for a driver's error by its code; None if it has none, or if the connection is lost."""
    sqlstate = getattr(error, "sqlstate", None)
    if sqlstate:
        return SQLSTATES.get(sqlstate) or SQLSTATES.get(sqlstate[:2])
    code = getattr(error, "sqlite_errorcode", None)
    if code:
        return SQLITE_CODES.get(code) or SQLITE_CODES.get(code & 0xFF)
    return None


def means_lost(error: BaseException) -> bool:
    """Whether an error says that the connection it came from is lost."""
    sqlstate = getattr(error, "sqlstate", None)
    return sqlstate.startswith(LOST) if sqlstate else isinstance(error, OSError | TimeoutError)
