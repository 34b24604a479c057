"""Why rows were not written: one error for each, and one for all of a batch that is written all or nothing."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from db.engines.database import Connection
from db.engines.statement import Statement
from db.errors import (
    AlreadyExists,
    NotFound,
    NotOwner,
    SerializationFailure,
    StillReferenced,
    UnknownReference,
    VersionMismatch,
)
from db.tables.sql import TableSQL
from db.tables.table import Deletion, Patch, Table

T = TypeVar("T")
W = TypeVar("W", Patch, Deletion)

Explain = Callable[[Connection, Sequence[W]], Awaitable[Sequence[Exception]]]


class Refusals:
    """Finds out why rows were not written, by queries that only a row that was not written costs."""

    def __init__(self, table: Table, sql: TableSQL) -> None:
        self._table, self._noun, self._sql = table, table.noun, sql
        self._version = len(table.fields) + 1  # its place in a row, after the id and the fields
        self._owner = table.fields.index(table.owner) + 1 if table.owner is not None else None

    async def of(
        self, connection: Connection, unwritten: Sequence[W], explain: "Explain[W] | None"
    ) -> dict[int, Exception]:
        """Return, by id, why rows were not written; `explain` returns it for those that a guard refused."""
        if not explain and all(each.version is None and each.owner is None for each in unwritten):
            return {each.id: NotFound([each.id], self._noun) for each in unwritten}
        try:
            missed = await self.missed(connection, unwritten)
            refused = [each for each in unwritten if each.id not in missed]
            explained = await explain(connection, refused) if explain and refused else []
        except Exception as error:
            if not connection.autocommits:
                raise
            return dict.fromkeys((each.id for each in unwritten), error)  # the rest of the batch is committed
        errors = missed | dict(zip((each.id for each in refused), explained, strict=False))
        return {each.id: errors.get(each.id) or self._outdated(each) for each in unwritten}

    def _outdated(self, write: Patch | Deletion) -> Exception:
        """Return the error of a write whose row has appeared, or come to its version or owner, only since."""
        if write.version is not None:
            return VersionMismatch([write.id], self._noun)
        return (NotFound if write.owner is None or self._owner is None else NotOwner)([write.id], self._noun)

    async def missed(self, connection: Connection, writes: Sequence[W]) -> dict[int, Exception]:
        """Return, by id, why writes do not apply to the rows that there are.

        That is NotFound for an id that has no row, NotOwner for a row of another user, and VersionMismatch for one at
        another version.
        """
        ids = [(each.id,) for each in writes]
        rows = await connection.fetch(self._sql.get, self._sql.ids.bind(ids)) if ids else []
        found = {row[0]: row for row in rows}
        kinds = ((each.id, self._mismatch(each, found.get(each.id))) for each in writes)
        return {id: kind([id], self._noun) for id, kind in kinds if kind is not None}

    def _mismatch(
        self, write: Patch | Deletion, row: Sequence[Any] | None
    ) -> type[NotFound | NotOwner | VersionMismatch] | None:
        if row is None:
            return NotFound
        if self._owner is not None and write.owner is not None and row[self._owner] not in {None, write.owner}:
            return NotOwner
        return None if write.version in {None, row[self._version]} else VersionMismatch

    async def of_patches(self, connection: Connection, patches: Sequence[Patch]) -> list[Exception]:
        """Return why each of these patches, or new rows, was refused by a guard."""
        return [self._refusal(names) for names in await self._refused_fields(connection, patches)]

    async def of_repeated(
        self, connection: Connection, patches: Sequence[Patch], repeated: set[tuple[int, str]]
    ) -> AlreadyExists:
        """Return the error of a batch whose members have equal unique values, `repeated`, with all that are taken."""
        found = await self._refused_fields(connection, patches)
        names = [(place, name) for place in range(len(patches)) for name in self._table.unique]
        return AlreadyExists([path for path in names if path in repeated or path[1] in found[path[0]]], self._noun)

    async def of_deletions(self, connection: Connection, deletions: Sequence[Deletion]) -> list[Exception]:
        """Return why each of these deletions was refused by a guard."""
        names = [reference.other.name for reference in self._table.referenced_by]
        flags = await _flags(connection, self._sql.referred, self._sql.bind_deletions(deletions))
        found = [next((name for name, is_set in zip(names, row, strict=True) if is_set), None) for row in flags]
        return [
            StillReferenced([each.id], self._noun, by) if by else _moved_on()
            for each, by in zip(deletions, found, strict=True)
        ]

    async def _refused_fields(self, connection: Connection, patches: Sequence[Patch]) -> list[list[str]]:
        """Return the fields of each patch that a guard refuses."""
        flags = await _flags(connection, self._sql.refused, self._sql.bind_patches(patches))
        return [[name for name, is_set in zip(self._sql.guarded, row, strict=True) if is_set] for row in flags]

    def _refusal(self, names: Sequence[str]) -> Exception:
        taken = [(name,) for name in names if name in self._table.unique]
        if taken:
            return AlreadyExists(taken, self._noun)
        return UnknownReference([(name,) for name in names], self._noun) if names else _moved_on()


def _moved_on() -> SerializationFailure:
    return SerializationFailure("a concurrent transaction has changed what the write depends on")


async def _flags(connection: Connection, statement: Statement | None, arguments: Any) -> list[list[bool]]:
    assert statement is not None  # noqa: S101 - narrows the type: there are guards
    return [flags for _, *flags in await connection.fetch(statement, arguments)]


def all_or_nothing(results: Sequence[T | Exception]) -> list[T]:
    """Return the results of a batch if none is an exception.

    Raise NotFound with every id that was not found, else NotOwner, VersionMismatch, AlreadyExists, UnknownReference or
    StillReferenced with every id, row or field that it is for, else the first exception.
    """
    errors = [result for result in results if isinstance(result, Exception)]
    if not errors:
        return [result for result in results if not isinstance(result, Exception)]
    missing = [error for error in errors if isinstance(error, NotFound)]
    if missing:
        raise NotFound([id for error in missing for id in error.ids], missing[0].noun)
    foreign = {place: error for place, error in enumerate(results) if isinstance(error, NotOwner)}
    if foreign:
        ids = [id for error in foreign.values() for id in error.ids]
        raise NotOwner(ids, next(iter(foreign.values())).noun, [(place,) for place in foreign])
    stale = [error for error in errors if isinstance(error, VersionMismatch)]
    if stale:
        raise VersionMismatch([id for error in stale for id in error.ids], stale[0].noun)
    for refusal in (AlreadyExists, UnknownReference):
        placed = [(place, error) for place, error in enumerate(results) if isinstance(error, refusal)]
        if placed:
            raise refusal([(place, *path) for place, error in placed for path in error.paths], placed[0][1].noun)
    referenced = [error for error in errors if isinstance(error, StillReferenced)]
    if referenced:
        referenced = [error for error in referenced if error.by == referenced[0].by]  # by one table at a time
        raise StillReferenced([id for error in referenced for id in error.ids], referenced[0].noun, referenced[0].by)
    raise errors[0]
