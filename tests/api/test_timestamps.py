"""Timestamps have one width in JSON: six digits of a second, also where they are all zero."""

import json
import re
from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise
from random import Random
from typing import Any

import httpx
import msgspec
import pytest
from sqlalchemy import update

from db.engines.engine import open_database
from tests.support.resources import COLLECTIONS, Request, ResourceClient
from tests.support.responses import JSON, MSGPACK, walked

WHOLE = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
WRITTEN = "2026-01-31T12:00:00.000000Z"
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
NAMES = ("created_at", "updated_at")
MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Where a double of seconds has no more room for microseconds, and where numbers change their sign.
LIMITS = [EPOCH + timedelta(seconds=seconds) for seconds in (-(2**32), 0, 2**31, 2**32)] + [
    datetime(2000, 1, 1, tzinfo=UTC)
]
EXTREMES = [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]


@pytest.fixture
async def rows(resource: ResourceClient, database_url: str) -> list[dict[str, Any]]:
    """Create three rows, and make the timestamps of all whole seconds."""
    rows = await resource.create(count=3)
    database = open_database(database_url)
    try:
        async with database.engine.begin() as connection:
            for collection in COLLECTIONS:
                await connection.execute(update(collection.table).values(dict.fromkeys(NAMES, WHOLE)))
    finally:
        await database.close()
    return rows


def timestamps(value: Any) -> list[Any]:
    """Return the timestamps of rows, also of embedded ones."""
    if isinstance(value, list):
        return [found for part in value for found in timestamps(part)]
    embedded = [found for part in value.values() if isinstance(part, list) for found in timestamps(part)]
    return [*(value[name] for name in NAMES), *embedded]


async def test_whole_seconds_have_six_decimals_however_they_are_read(
    resource: ResourceClient, rows: list[dict[str, Any]]
) -> None:
    first, second, third = rows
    patches = [{"id": row["id"]} for row in (second, third)]  # which change nothing
    reads = [*resource.reads(first, second), Request("PATCH", resource.url(third), {})]
    keyed = [Request("PATCH", resource.path, patches, {"idempotency-key": str(number)}) for number in (1, 1, 2)]
    for request in [*reads, Request("PATCH", resource.path, patches), *keyed]:
        response = await resource.send(request)
        assert set(timestamps(response.json())) == {WRITTEN}, request
        packed = msgspec.msgpack.decode((await resource.send(request._replace(headers={}), MSGPACK)).content)
        assert set(timestamps(packed)) == {WHOLE}, request


async def test_every_width_is_the_same_from_the_first_write_on(resource: ResourceClient) -> None:
    found = []
    async for request, _ in resource.each_write():
        response = await resource.send(request, JSON)
        if response.content and request.method != "DELETE":
            found += timestamps(response.json())
    assert found
    assert all(TIMESTAMP.fullmatch(text) for text in found)


async def test_a_walk_goes_on_behind_a_whole_second(
    resource: ResourceClient, rows: list[dict[str, Any]], client: httpx.AsyncClient
) -> None:
    for order in ("created_at", "-created_at"):
        walk = await walked(client, f"{resource.path}?limit=1&order={order}")
        assert {row["id"] for row in walk} >= {row["id"] for row in rows}
        assert len(json.dumps(walk)) == len(json.dumps(await walked(client, f"{resource.path}?limit=2&order={order}")))


async def test_every_microsecond_is_read_as_it_was_written(
    resource: ResourceClient, client: httpx.AsyncClient, database_url: str
) -> None:
    random = Random(1)  # noqa: S311 - no secret
    times = EXTREMES + [limit + step * MICROSECOND for limit in LIMITS for step in (-1, 0, 1)]
    times += [EPOCH + timedelta(microseconds=random.randrange(2**51)) for _ in range(80)]
    rows = await resource.create(count=len(times))
    database, table = open_database(database_url), resource.collection.table
    try:
        async with database.engine.begin() as connection:
            for row, time in zip(rows, times, strict=True):
                written = update(table).where(table.c.id == row["id"]).values(dict.fromkeys(NAMES, time))
                await connection.execute(written)
    finally:
        await database.close()
    texts = [time.isoformat(timespec="microseconds").replace("+00:00", "Z") for time in times]
    ids = ",".join(str(row["id"]) for row in rows)
    by_id = (await client.get(f"{resource.path}?ids={ids}")).json()
    single = [
        (await resource.send(request, JSON)).json() for request in (Request("GET", resource.url(row)) for row in rows)
    ]
    assert [row["created_at"] for row in by_id] == [row["updated_at"] for row in single] == texts
    listed = await walked(client, f"{resource.path}?limit=7&order=created_at")
    created = [row["created_at"] for row in listed if row["id"] in {row["id"] for row in rows}]
    assert created == sorted(texts)


async def test_other_spellings_that_sqlite_takes_are_read_as_the_same_moment(
    resource: ResourceClient, database_url: str
) -> None:
    if not database_url.startswith("sqlite"):
        pytest.skip("PostgreSQL has one spelling")
    texts = [
        "2026-01-31 12:00:00",
        "2026-01-31T12:00:00Z",
        "2026-01-31 14:00:00.000000+02:00",
        "2026-01-31 12:00",
        "2026-01-31T12:00:00.00000Z",
        "2026-01-31 12:00:00.000+00",
        "2026-01-31 14:00:00.0+0200",
    ]
    rows = await resource.create(count=len(texts))
    database, table = open_database(database_url), resource.collection.table.name
    try:
        async with database.engine.begin() as connection:
            for row, text in zip(rows, texts, strict=True):
                written = f"UPDATE {table} SET created_at = ?, updated_at = ? WHERE id = ?"  # noqa: S608 - a name
                await connection.exec_driver_sql(written, (text, text, row["id"]))
    finally:
        await database.close()
    for request in chain.from_iterable(resource.reads(first, second) for first, second in pairwise(rows)):
        response = await resource.send(request)
        assert response.status_code == 200, (request, response.text)
        assert set(timestamps(response.json())) == {WRITTEN}, request
