"""A journal against the database: whether every promise was kept."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import make_url, select, text
from sqlalchemy.exc import DBAPIError

from db.engines.engine import open_database
from tests.faults.history import Expected, History, origin, spoken
from tests.faults.journal import Fields, read
from tests.faults.resources import BY_PATH, RESOURCES

Key = tuple[str, str]  # a path and an origin


class Row(NamedTuple):
    """A row as the database has it."""

    path: str  # of its resource
    id: int
    version: int
    fields: Fields

    @property
    def name(self) -> str:
        """Return the name that writers gave it."""
        return str(self.fields[BY_PATH[self.path].named_by])


def check(journal_path: Path, rows: Sequence[Row]) -> list[str]:
    """Return a sentence for every broken promise: of all rows that there are, read when all writers had ended."""
    history = History(read(journal_path))
    found: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.path, origin(row.name)].append(row)
    faults = list(history.faults)
    for key, same in found.items():
        if key not in history.rows:
            faults += [f"row {row.id} of {row.path} ({row.name}) is there, and no write asked for it" for row in same]
        elif len(same) > 1:
            faults.append(f"{history.rows[key]} is there {len(same)} times: as {sorted(row.id for row in same)}")
    for key, expected in history.rows.items():
        same = found.get(key, [])
        faults += _faults(expected, next((row for row in same if row.id == expected.id), same[0] if same else None))
    return [*faults, *_halves(history, found)]


def read_rows(database_url: str) -> list[Row]:
    """Read every row of every resource, past the service."""

    async def run() -> list[Row]:
        database = open_database(database_url)
        rows: list[Row] = []
        try:
            async with database.engine.begin() as connection:
                for resource in RESOURCES:
                    table, names = resource.collection.table, resource.fields
                    columns = (table.c.id, table.c.version, *(table.c[name] for name in names))
                    for id, version, *values in await connection.execute(select(*columns)):
                        rows.append(Row(resource.path, id, version, dict(zip(names, values, strict=True))))
        finally:
            await database.close()
        return rows

    return asyncio.run(run())


def integrity_faults(database_url: str) -> list[str]:
    """Return what SQLite finds wrong with its file; PostgreSQL has no such question."""

    async def run() -> list[str]:
        database = open_database(database_url)
        try:
            async with database.engine.begin() as connection:
                found = [str(row[0]) for row in await connection.execute(text("PRAGMA integrity_check"))]
        except DBAPIError as error:
            found = [str(error.orig)]
        finally:
            await database.close()
        return [f"the file is damaged: {sentence}" for sentence in found if sentence != "ok"]

    return asyncio.run(run()) if make_url(database_url).get_backend_name() == "sqlite" else []


def _faults(expected: Expected, row: Row | None) -> Iterator[str]:
    if expected.result == "refused":
        if row is not None:
            yield f"{expected.resource.noun} {row.id} ({row.name}) is there, and write {expected.number} was refused"
    elif expected.result == "acknowledged" and (row is None or row.id != expected.id):
        if expected.deletion is None:
            yield _lost(expected)
    elif row is not None and expected.deletion == "acknowledged":
        yield f"{expected} is there, and write {expected.deleted_by} deleted it"
    elif row is not None:
        yield from _differences(expected, row)


def _lost(expected: Expected) -> str:
    if {} in expected.refusals.values():
        return f"{expected} is gone, and its deletion was refused"
    return f"{expected} is lost: write {expected.updated_by or expected.number} was acknowledged"


def _differences(expected: Expected, row: Row) -> Iterator[str]:
    """Find what a row should not be: every value is the last acknowledged one, or one of a write in doubt."""
    if row.version not in expected.versions:
        yield f"{expected} is in version {row.version}, not {spoken(expected.versions)}"
    for name, value in row.fields.items():
        if not expected.may_be(name, value, row.version):
            refused = [number for number, fields in expected.refusals.items() if fields.get(name) == value]
            reason = f", and write {refused[-1]} was refused" if refused else ""
            yield f"{expected} has the {name} {value!r}, not {expected.fields[name]!r}{reason}"


def _halves(history: History, found: dict[Key, list[Row]]) -> Iterator[str]:
    """Find batches of unknown outcome that were created in part."""
    asked: Counter[int] = Counter()
    there: Counter[int] = Counter()
    for key, expected in history.rows.items():
        if expected.result == "unknown":
            asked[expected.number] += 1
            there[expected.number] += key in found
    for number, count in there.items():
        if count not in {0, asked[number]}:
            yield f"write {number} created {count} of {asked[number]} rows"
