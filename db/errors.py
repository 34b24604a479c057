"""The errors of the database layer, and the codes of PostgreSQL and SQLite that each of them stands for."""

from collections.abc import Sequence
from datetime import datetime

from db.limit import Limit

# A field of a row, and before it, in a batch, the row's position: ("email",), (1, "email").
FieldPath = tuple[int | str, ...]


class DatabaseError(Exception):
    """The base class of every error below."""


class NotFound(DatabaseError):
    """No row of the resource `noun` has any of `ids`."""

    def __init__(self, ids: Sequence[int], noun: str) -> None:
        super().__init__(f"no {noun} has the id {_listed(ids)}")
        self.ids, self.noun = tuple(ids), noun


class VersionMismatch(DatabaseError):
    """The rows with these `ids` exist, but not at the version that the write expected; `why`, if that never existed."""

    def __init__(self, ids: Sequence[int], noun: str, why: str = "") -> None:
        super().__init__(why or f"the version has moved on for the id {_listed(ids)}")
        self.ids, self.noun = tuple(ids), noun


class NotOwner(DatabaseError):
    """The rows with these `ids` are another user's than the one who writes; `paths` has each of them, in a batch."""

    def __init__(self, ids: Sequence[int], noun: str, paths: Sequence[FieldPath] = ()) -> None:
        super().__init__(f"the {noun} with the id {_listed(ids)} belongs to another user")
        self.ids, self.noun, self.paths = tuple(ids), noun, tuple(paths)


class Conflict(DatabaseError):
    """The write violates a unique, foreign key or exclusion constraint; nothing was changed."""


class InvalidValue(DatabaseError):
    """The write violates a check or NOT NULL constraint or a data type; nothing was changed."""


class AlreadyExists(Conflict):
    """The values of unique fields are taken: `paths` has each of the fields."""

    def __init__(self, paths: Sequence[FieldPath], noun: str) -> None:
        super().__init__(f"another {noun} has this value")
        self.paths, self.noun = tuple(paths), noun


class UnknownReference(InvalidValue):
    """Fields name rows that do not exist: `paths` has each of the fields."""

    def __init__(self, paths: Sequence[FieldPath], noun: str) -> None:
        super().__init__(f"this {noun} refers to what does not exist")
        self.paths, self.noun = tuple(paths), noun


class StillReferenced(Conflict):
    """The rows with these `ids` cannot be deleted: rows of the table `by` refer to them."""

    def __init__(self, ids: Sequence[int], noun: str, by: str) -> None:
        super().__init__(f"{by} belong to the {noun} with the id {_listed(ids)}")
        self.ids, self.noun, self.by = tuple(ids), noun, by


def _listed(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids))


class TimedOut(DatabaseError):
    """The operation reached its time limit; nothing was changed."""


class Overloaded(DatabaseError):
    """A limit on waiting work is reached, which `limit` names; the statement was not sent."""

    def __init__(self, message: str, limit: Limit = Limit.OTHER) -> None:
        super().__init__(message)
        self.limit = limit


class Unavailable(DatabaseError):
    """The database cannot be reached, or could not run the statement; nothing was changed."""


class ConnectionLost(Unavailable):
    """The connection was lost before the commit, or the commit was found not to have happened; nothing was changed."""


class SerializationFailure(Unavailable):
    """The transaction was rolled back because of a concurrent one; the same transaction may succeed when repeated."""


class TooManyConnections(Unavailable):
    """The server, the database or the role may have no more connections."""


class UnexpectedPooler(Unavailable):
    """The database is reached through a pooler that shares connections, and the setting for one is off."""

    def __init__(self) -> None:
        super().__init__("it is reached through a pooler, such as PgBouncer: set ITEMSVC_PGBOUNCER=on")


class StorageFull(Unavailable):
    """The database's disk is full; nothing was changed."""


class SchemaMismatch(Unavailable):
    """A table or column that the statement names does not exist: the schema is at another revision."""


class StatementFailed(DatabaseError):
    """The database could not run the statement for a reason of its own: privileges, triggers, corruption, its version.

    Nothing was changed by this statement. It may have been for one row alone, so a batch is bisected.
    """


class NoSuchRevision(DatabaseError):
    """The schema has no such revision, or none that is reachable from its current one; nothing was changed."""


class MigrationRefused(DatabaseError):
    """The database refuses a statement of a migration, which is undone with all of its steps."""


class OutcomeUnknown(DatabaseError):
    """A write may or may not be committed, or may be lost in a failover, and its outcome was not found in time.

    Its connection was lost, or no synchronous standby has confirmed its commit.
    """


class DuplicateWrite(DatabaseError):
    """A write with the same token was committed before, at `written_at`, and wrote the rows with `ids`."""

    def __init__(self, ids: Sequence[int], written_at: datetime) -> None:
        super().__init__("this was written before")
        self.ids, self.written_at = tuple(ids), written_at


class KeyInUse(DatabaseError):
    """Another write with the same idempotency key is still running."""


class KeyReused(DatabaseError):
    """The idempotency key was used before, for another request."""


# PostgreSQL's SQLSTATE codes, or their first two digits: a class (PostgreSQL documentation, appendix A). Any other code
# is StatementFailed: the statements are fixed, so it is the deployment's doing, or that of its triggers.
SQLSTATES: dict[str, type[DatabaseError]] = {
    "23505": Conflict,
    "23503": Conflict,
    "23P01": Conflict,
    "23001": Conflict,  # a foreign key with ON DELETE RESTRICT
    "23": InvalidValue,  # 23502 NOT NULL, 23514 CHECK, 23000 raised by a trigger
    "2200H": StorageFull,  # a sequence has no more ids
    "22": InvalidValue,
    "44": InvalidValue,  # the check option of a view
    "54000": InvalidValue,  # a value is too long for its index
    "P0001": InvalidValue,  # RAISE EXCEPTION: a trigger that refuses the row
    "55P03": TimedOut,
    "57014": TimedOut,
    "25P02": SerializationFailure,  # a statement after one that failed: the transaction is to be run again
    "40": SerializationFailure,  # a deadlock or a serialization failure
    "72": SerializationFailure,  # the snapshot is too old
    "0A000": SerializationFailure,  # a cached plan whose result has another type since a table was changed
    "42P01": SchemaMismatch,  # no such table
    "42703": SchemaMismatch,  # no such column
    "28": Unavailable,
    "3D": Unavailable,
    "53100": StorageFull,
    "53": Unavailable,
    "57": Unavailable,  # an operator intervened
    "58": Unavailable,  # its disk, or its system
}

# SQLite's result codes, extended ones first (sqlite.org/rescode.html). Any other code is StatementFailed.
SQLITE_CODES: dict[int, type[DatabaseError]] = {
    275: InvalidValue,  # CONSTRAINT_CHECK
    1299: InvalidValue,  # CONSTRAINT_NOTNULL
    1811: InvalidValue,  # CONSTRAINT_TRIGGER: RAISE in a trigger that refuses the row
    19: Conflict,  # CONSTRAINT, any other
    18: InvalidValue,  # TOOBIG
    20: InvalidValue,  # MISMATCH
    25: InvalidValue,  # RANGE
    9: TimedOut,  # INTERRUPT
    1: SchemaMismatch,  # ERROR: no such table or column
    5: Unavailable,  # BUSY
    6: Unavailable,  # LOCKED
    7: Unavailable,  # NOMEM
    8: Unavailable,  # READONLY
    10: Unavailable,  # IOERR
    11: Unavailable,  # CORRUPT
    13: StorageFull,
    14: Unavailable,  # CANTOPEN
    15: Unavailable,  # PROTOCOL
    17: Unavailable,  # SCHEMA: it changes all the time
    22: StorageFull,  # NOLFS: the file system has no larger files
    26: Unavailable,  # NOTADB
}

# The server reported that this connection ends, or is of no more use: 08 connection, 25006 read only (a demoted
# primary), 25P03 and 25P04 time limits of a transaction, 57P0x shutdown. A statement in flight may or may not have
# happened.
READ_ONLY = "25006"
CONNECTION_LOST = ("08", READ_ONLY, "25P03", "25P04", "57P0")


def sqlstate_of(error: BaseException) -> str | None:
    """Return PostgreSQL's five-character code of an error, or None if it has none.

    SQLAlchemy's errors may have the code in their cause alone, as that of an outdated cached plan (0A000) has.
    """
    return next(filter(None, (getattr(each, "sqlstate", None) for each in (error, error.__cause__))), None)


def is_demoted(error: BaseException) -> bool:
    """Return whether the server reported that it accepts no writes: it is not a primary, or no longer one."""
    return sqlstate_of(error) == READ_ONLY


def is_undone(error: BaseException) -> bool:
    """Return whether the server reported that it did not execute the statement, even if the connection is lost then.

    An ERROR is the server's response in place of the result; FATAL and PANIC may come after a result. PgBouncer reports
    a lost server as an ERROR, too, with the code 08P01; that one is excluded.
    """
    # SQLAlchemy's errors have the code only, and the driver's own error as their cause.
    is_error = any(getattr(each, "severity_en", None) == "ERROR" for each in (error, error.__cause__))
    return is_error and not (sqlstate_of(error) or "08").startswith("08")


def error_class(error: BaseException) -> type[DatabaseError] | None:
    """Return the class of db.errors for a driver's error, by its code; None without one, or for a lost connection."""
    sqlstate = sqlstate_of(error)
    if sqlstate:
        known = SQLSTATES.get(sqlstate) or SQLSTATES.get(sqlstate[:2], StatementFailed)
        return None if sqlstate.startswith(CONNECTION_LOST) else known
    code = getattr(error, "sqlite_errorcode", None)
    return (SQLITE_CODES.get(code) or SQLITE_CODES.get(code & 0xFF, StatementFailed)) if code else None


def is_connection_lost(error: BaseException) -> bool:
    """Return whether an error means that the connection that raised it is lost."""
    sqlstate = sqlstate_of(error)
    return sqlstate.startswith(CONNECTION_LOST) if sqlstate else isinstance(error, OSError | TimeoutError)
