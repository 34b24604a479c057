"""A journal against the database: whether every promise was kept."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import make_url, select, text
from sqlalchemy.exc import DBAPIError

from db.engines.engine import open_database
from db.models import Item as Model
from db.models import table
from tests.faults.history import OF_AN_ITEM, History, Item, called, origin, spoken
from tests.faults.journal import read


class Row(NamedTuple):
    """An item as the database has it."""

    id: int
    name: str
    price: float
    in_stock: bool
    version: int


def check(journal_path: Path, rows: Sequence[Row]) -> list[str]:
    """Return a sentence for every fault: of rows that are all there are, and were read when nobody wrote any more."""
    history = History(read(journal_path))
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[origin(row.name)].append(row)
    faults = list(history.faults)
    for name, same in found.items():
        if name not in history.items:
            faults += [f"row {row.id} ({row.name}) is an item that nobody asked for" for row in same]
        elif len(same) > 1:
            faults.append(
                f"{called(history.items[name])} is there {len(same)} times: as {sorted(row.id for row in same)}"
            )
    for item in history.items.values():
        same = found.get(item.origin, [])
        faults += _faults(item, next((row for row in same if row.id == item.id), same[0] if same else None))
    return [*faults, *_halves(history, found)]


def read_rows(database_url: str) -> list[Row]:
    """Read every item, past the service."""

    async def run() -> list[Row]:
        database = open_database(database_url)
        columns = [table(Model).c[name] for name in Row._fields]
        try:
            async with database.engine.begin() as connection:
                return [Row(*row) for row in await connection.execute(select(*columns))]
        finally:
            await database.close()

    return asyncio.run(run())


def integrity_faults(database_url: str) -> list[str]:
    """Return what SQLite finds wrong with its file; PostgreSQL has no such question."""

    async def run() -> list[str]:
        database = open_database(database_url)
        try:
            async with database.engine.begin() as connection:
                said = [str(row[0]) for row in await connection.execute(text("PRAGMA integrity_check"))]
        except DBAPIError as error:
            said = [str(error.orig)]
        finally:
            await database.close()
        return [f"the file is damaged: {sentence}" for sentence in said if sentence != "ok"]

    return asyncio.run(run()) if make_url(database_url).get_backend_name() == "sqlite" else []


def _faults(item: Item, row: Row | None) -> Iterator[str]:
    if item.told == "refused":
        if row is not None:
            yield f"row {row.id} ({row.name}) is there, and write {item.number} was refused"
    elif item.told == "acknowledged" and (row is None or row.id != item.id):
        if item.removal is None:
            yield _lost(item)
    elif row is not None and item.removal == "acknowledged":
        yield f"{called(item)} is there, and write {item.removed_by} removed it"
    elif row is not None:
        yield from _differences(item, row)


def _lost(item: Item) -> str:
    if {} in item.refusals.values():
        return f"{called(item)} is gone, and its removal was refused"
    return f"{called(item)} is lost: write {item.changed_by or item.number} was acknowledged"


def _differences(item: Item, row: Row) -> Iterator[str]:
    """Find what a row should not be: every value is the last acknowledged one, or one of a write in doubt."""
    if row.version not in item.versions:
        yield f"{called(item)} is in version {row.version}, not {spoken(item.versions)}"
    for name in OF_AN_ITEM:
        value = getattr(row, name)
        if not item.may_be(name, value, row.version):
            refused = [number for number, fields in item.refusals.items() if fields.get(name) == value]
            reason = f", and write {refused[-1]} was refused" if refused else ""
            yield f"{called(item)} has the {name} {value!r}, not {item.fields[name]!r}{reason}"


def _halves(history: History, found: dict[str, list[Row]]) -> Iterator[str]:
    """Find sets of unknown outcome that were added in part."""
    asked: Counter[int] = Counter()
    there: Counter[int] = Counter()
    for item in history.items.values():
        if item.told == "unknown":
            asked[item.number] += 1
            there[item.number] += item.origin in found
    for number, count in there.items():
        if count not in {0, asked[number]}:
            yield f"write {number} added {count} of {asked[number]} items"
