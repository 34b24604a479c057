"""The verbs of a table, each run for a whole batch on one connection."""

from collections.abc import Callable, Sequence
from itertools import chain, islice, starmap
from operator import itemgetter
from typing import Any, Generic, TypeVar

from db.engines.database import Connection, Database
from db.engines.statement import Statement
from db.errors import Conflict, DuplicateWrite, NotFound, OutcomeUnknown, SerializationFailure
from db.models import FIRST_VERSION
from db.tables.batched_pages import BatchedPages
from db.tables.pagination import KeysetPaginator, Page, Query
from db.tables.refusals import Refusals, all_or_nothing
from db.tables.sql import TableSQL
from db.tables.table import Deletion, Patch, Row, Table, repeated

T = TypeVar("T")
W = TypeVar("W", Patch, Deletion)

_first = itemgetter(0)


class TableStatements(Generic[T]):
    """The verbs of a table, each run for a batch on one connection.

    A row is returned as `make_row(*columns)`, in the order of the columns of the table. A verb returns one result for
    each member of its batch, in their order. For a single row that is the row, None from `delete`, or an exception,
    which means that the row was left as it was; for a batch of `get_many` or `create_many`, a list of the rows that
    there are, or were created. A write that is repeated under the same token happens once.
    """

    def __init__(self, database: Database, table: Table, make_row: Callable[..., T]) -> None:
        self._table = table
        self._noun = table.noun
        self._make_row = make_row
        self._sql = TableSQL(database, table)
        self._paginator = KeysetPaginator(database, table)
        self.batched_pages = BatchedPages(database, table)
        self._refusals = Refusals(table, self._sql)
        self._references = [table.fields.index(reference.column) for reference in table.references]
        self._returned = [table.row_fields.index(name) for name in self._sql.guarded]  # by a guarded INSERT

    def may_refuse_rows(self, rows: Sequence[Row]) -> bool:
        """Return whether a guard may refuse any of these rows."""
        return bool(self._table.unique) or any(row[place] is not None for place in self._references for row in rows)

    def may_refuse_patches(self, patches: Sequence[Patch]) -> bool:
        """Return whether a guard may refuse any of these patches."""
        return any(patch.values.get(name) is not None for name in self._sql.guarded for patch in patches)

    @property
    def may_refuse_deletions(self) -> bool:
        """Whether rows of another table may refer to a row to delete."""
        return bool(self._table.referenced_by)

    async def get(
        self,
        connection: Connection,
        ids: Sequence[int],
        token: bytes | None = None,  # noqa: ARG002 - a read may run twice
    ) -> list[T | NotFound]:
        """Return the row for each id, or NotFound in its place."""
        found = await self._found(connection, ids)
        return [found.get(id) or NotFound([id], self._noun) for id in ids]

    async def get_many(self, connection: Connection, batches: Sequence[Sequence[int]], _token: bytes) -> list[list[T]]:
        """Return, for each batch of ids, the rows that exist, in the order of the ids."""
        found = await self._found(connection, list(dict.fromkeys(chain.from_iterable(batches))))
        return [[found[id] for id in batch if id in found] for batch in batches]

    async def _found(self, connection: Connection, ids: Sequence[int]) -> dict[int, T]:
        make_row = self._make_row
        return {row[0]: make_row(*row) for row in await self._select(connection, ids)}

    async def create_many(
        self, connection: Connection, batches: Sequence[Sequence[Row]], token: bytes
    ) -> list[list[T | Exception]]:
        """Create batches of rows that no guard may refuse, and return the rows of each, in their order."""
        created = iter(await self.create(connection, list(chain.from_iterable(batches)), token))
        return [list(islice(created, len(batch))) for batch in batches]

    async def lock(self, connection: Connection, ids: Sequence[int]) -> None:
        """Lock rows in the order of their ids, before several verbs write them, so that no two workers deadlock."""
        await connection.fetch(self._sql.lock, self._sql.ids.bind([(id,) for id in sorted(ids)]))

    async def page(self, connection: Connection, query: Query) -> Page[T]:
        """Return a page of the list."""
        rows, more, total = await self._paginator.fetch(connection, query)
        return Page(list(starmap(self._make_row, rows)), more, total)

    async def pages(self, connection: Connection, queries: Sequence[Query], _token: bytes) -> list[Page[T]]:
        """Return pages that `batched_pages` includes, with one key."""
        limit = queries[0].limit
        found = await self.batched_pages.fetch(connection, queries)
        return [Page(list(starmap(self._make_row, rows[:limit])), len(rows) > limit) for rows in found]

    async def create(
        self, connection: Connection, rows: Sequence[Row], token: bytes | None = None
    ) -> list[T | Exception]:
        """Create rows, as they are stored, and return each as it was created, or AlreadyExists or UnknownReference.

        They are inserted in the order of their unique values, so that no two workers deadlock.
        """
        if not self._table.unique or len(rows) == 1:
            return await self._create(connection, rows, token)
        keys = list(map(self._table.unique_in_row, rows))
        order = sorted(range(len(rows)), key=keys.__getitem__)
        results = await self._create(connection, [rows[place] for place in order], token)
        by_place = dict(zip(order, results, strict=True))
        return [by_place[place] for place in range(len(rows))]

    async def _create(self, connection: Connection, rows: Sequence[Row], token: bytes | None) -> list[T | Exception]:
        guarded = self.may_refuse_rows(rows)
        statement = self._sql.create_guarded if guarded else self._sql.create
        try:
            created = await self._write(connection, statement, self._sql.new_rows.bind(rows), token, guarded=guarded)
        except DuplicateWrite as duplicate:
            found = await self._select(connection, duplicate.ids) if len(duplicate.ids) < len(rows) else []
            found_values = {row[0]: [row[place + 1] for place in self._returned] for row in found}
            created = [(id, duplicate.written_at, *found_values.get(id, ())) for id in sorted(duplicate.ids)]
        if len(created) == len(rows):
            return self._made(created, rows)
        return await self._made_and_refused(connection, created, rows)

    async def create_all(self, connection: Connection, rows: Sequence[Row]) -> list[T | Exception]:
        """Create rows in a transaction, which is rolled back if any result is an exception."""
        if found := repeated(map(self._table.unique_in_row, rows)):
            raise await self._refusals.of_repeated(connection, self._as_patches(rows), found)
        return await self.create(connection, rows)

    def _made(self, created: Sequence[Sequence[Any]], rows: Sequence[Row]) -> list[Any]:
        """Return the rows that were created; what is known of them need not come back from the database.

        Ids are drawn in the order of the batch, while RETURNING promises none.
        """
        make_row = self._make_row
        read = len(self._table.fields)
        if len(rows[0]) > read:
            rows = [row[:read] for row in rows]
        return [
            make_row(each[0], *row, FIRST_VERSION, each[1], each[1])
            for each, row in zip(sorted(created, key=_first), rows, strict=True)
        ]

    async def _made_and_refused(
        self, connection: Connection, created: Sequence[Sequence[Any]], rows: Sequence[Row]
    ) -> list[T | Exception]:
        """Return the rows that were created, and in the place of the others why they were refused."""
        written = {tuple(row[2:]) for row in created}
        is_made = [tuple(row[place] for place in self._returned) in written for row in rows]
        made = [row for row, accepted in zip(rows, is_made, strict=True) if accepted]
        if len(made) != len(created):  # after a DuplicateWrite alone
            raise OutcomeUnknown(f"some {self._noun} was created, and has been changed since")
        others = [row for row, accepted in zip(rows, is_made, strict=True) if not accepted]
        refused = self._as_patches(others)
        try:
            errors: Sequence[Exception] = await self._refusals.of_patches(connection, refused)
        except Exception as error:
            if not connection.autocommits:
                raise
            errors = [error] * len(refused)  # the rest of the batch is committed: this is for these members only
        results, refusals = iter(self._made(created, made) if made else []), iter(errors)
        return [next(results if accepted else refusals) for accepted in is_made]

    def _as_patches(self, rows: Sequence[Row]) -> list[Patch]:
        # Not strict: as it is stored, a row has folded values behind its own.
        return [Patch(0, None, dict(zip(self._table.row_fields, row, strict=False))) for row in rows]

    async def update(
        self, connection: Connection, patches: Sequence[Patch], token: bytes | None = None
    ) -> list[T | Exception]:
        """Update rows, each id at most once, and return each as it is then, or why it was not updated.

        That is NotFound, NotOwner, VersionMismatch, AlreadyExists or UnknownReference.
        """
        guarded = self.may_refuse_patches(patches)
        updated: dict[int, T | Exception] = {}
        try:
            statement, arguments = self._sql.updating(_ordered(patches), guarded=guarded)
            rows = await self._write(connection, statement, arguments, token, guarded=guarded)
        except DuplicateWrite as duplicate:
            deleted_since = OutcomeUnknown(f"the {self._noun} was updated, and has been deleted since")
            updated = dict.fromkeys(duplicate.ids, deleted_since)
            rows = await self._select(connection, duplicate.ids)
        updated.update((row[0], self._make_row(*row)) for row in rows)
        unwritten = [each for each in patches if each.id not in updated]
        errors = await self._refusals.of(connection, unwritten, self._refusals.of_patches if guarded else None)
        return [updated.get(each.id) or errors[each.id] for each in patches]

    async def update_all(self, connection: Connection, patches: Sequence[Patch]) -> list[T | Exception]:
        """Update rows in a transaction, which is rolled back if any result is an exception; unique values may swap."""
        if self._sql.vacate and (arguments := self._sql.bind_vacated(_ordered(patches))):
            await self._write(connection, self._sql.vacate, arguments, None, guarded=True)
        if found := repeated(self._table.unique_values(patch.values) for patch in patches):
            missed = await self._refusals.missed(connection, patches)
            all_or_nothing([missed.get(patch.id) for patch in patches])
            raise await self._refusals.of_repeated(connection, patches, found)
        return await self.update(connection, patches)

    async def delete(
        self, connection: Connection, deletions: Sequence[Deletion], token: bytes | None = None
    ) -> list[Exception | None]:
        """Delete rows, and return None for each that was deleted, or why it was not.

        That is NotFound, NotOwner, VersionMismatch or StillReferenced.
        """
        guarded = self.may_refuse_deletions
        statement, arguments = self._sql.deleting(_ordered(deletions))
        try:
            rows = await self._write(connection, statement, arguments, token, guarded=guarded)
            deleted = {row[0] for row in rows}
        except DuplicateWrite as duplicate:
            deleted = set(duplicate.ids)
        unwritten = [each for each in deletions if each.id not in deleted]
        errors = await self._refusals.of(connection, unwritten, self._refusals.of_deletions if guarded else None)
        return [errors.get(each.id) for each in deletions]

    async def _select(self, connection: Connection, ids: Sequence[int]) -> list[Any]:
        if not ids:  # the write that a DuplicateWrite stands for may have found no row
            return []
        return await connection.fetch(self._sql.get, self._sql.ids.bind([(id,) for id in ids]))

    async def _write(
        self, connection: Connection, statement: Statement, arguments: Any, token: bytes | None, *, guarded: bool
    ) -> list[Any]:
        """Run a write. A conflict that its guards did not see is with a concurrent transaction: it is to run again."""
        try:
            return await connection.fetch(statement, arguments, token)
        except Conflict as conflict:
            if guarded:
                raise SerializationFailure(str(conflict)) from conflict
            raise


def _ordered(writes: Sequence[W]) -> list[W]:
    """Return the writes in the order of their ids, so that two workers never wait for each other's rows."""
    return sorted(writes, key=_first)
