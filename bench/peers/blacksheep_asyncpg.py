"""BlackSheep and asyncpg by hand: about the fastest that is written in Python without joining requests.

One statement for each request, in autocommit, prepared by asyncpg's own cache on a pool's connection; rows become
Structs by position, and msgspec writes the JSON.
"""

import os
from collections.abc import AsyncGenerator
from datetime import datetime
from operator import itemgetter
from typing import Annotated

import asyncpg
import msgspec
from blacksheep import Application, Content, Request, Response
from msgspec import Meta, Struct

COLUMNS = "id, name, price, in_stock, owner_id, version, created_at, updated_at"
SELECT_ONE = f"SELECT {COLUMNS} FROM items WHERE id = $1"  # noqa: S608 - a constant
SELECT_PAGE = {
    order: f"SELECT {COLUMNS} FROM items ORDER BY {columns} LIMIT $1"  # noqa: S608
    for order, columns in (("id", "id"), ("price", "price, id"), ("name", "name, id"))
}
SELECT_NEXT = {
    "id": f"SELECT {COLUMNS} FROM items WHERE id > $2 ORDER BY id LIMIT $1",  # noqa: S608
    "price": f"SELECT {COLUMNS} FROM items WHERE (price, id) > ($3, $2) ORDER BY price, id LIMIT $1",  # noqa: S608
    "name": f"SELECT {COLUMNS} FROM items WHERE (name, id) > ($3, $2) ORDER BY name, id LIMIT $1",  # noqa: S608
}
SELECT_BATCH = f"SELECT {COLUMNS} FROM items WHERE id = ANY($1)"  # noqa: S608
INSERT_ONE = f"INSERT INTO items (name, price, in_stock) VALUES ($1, $2, $3) RETURNING {COLUMNS}"  # noqa: S608
INSERT_BATCH = f"""
INSERT INTO items (name, price, in_stock)
SELECT name, price, in_stock FROM unnest($1::text[], $2::float8[], $3::boolean[])
WITH ORDINALITY AS rows (name, price, in_stock, position) ORDER BY position RETURNING {COLUMNS}"""  # noqa: S608
UPDATE_ONE = f"""
UPDATE items SET name = $2, price = $3, in_stock = $4, version = version + 1, updated_at = now()
WHERE id = $1 RETURNING {COLUMNS}"""  # noqa: S608


class ItemCreate(Struct):
    """What a client sends."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    price: Annotated[float, Meta(ge=0)]
    in_stock: bool = True


class Item(Struct):
    """What a client receives, in the order of the columns."""

    id: int
    name: str
    price: float
    in_stock: bool
    owner_id: int | None
    version: int
    created_at: datetime
    updated_at: datetime


class Database:
    """Holds the pool while the application runs."""

    pool: "asyncpg.Pool[asyncpg.Record]"


app = Application()
database = Database()
encode = msgspec.json.Encoder().encode
decode_one = msgspec.json.Decoder(ItemCreate).decode
decode_any = msgspec.json.Decoder(ItemCreate | list[ItemCreate]).decode


@app.lifespan
async def pool() -> AsyncGenerator[None]:
    """Keep asyncpg's pool as long as the application runs."""
    dsn = os.environ["DATABASE_URL"].replace("+asyncpg", "")
    async with asyncpg.create_pool(dsn) as database.pool:
        yield


def respond(content: Item | list[Item], status: int = 200) -> Response:
    """Encode a response."""
    return Response(status, content=Content(b"application/json", encode(content)))


@app.router.get("/items/{item_id}")
async def read_item(item_id: int) -> Response:
    """Read one item."""
    row = await database.pool.fetchrow(SELECT_ONE, item_id)
    return Response(404) if row is None else respond(Item(*row))


@app.router.get("/items")
async def read_items(
    limit: int = 100,
    ids: str = "",
    order: str = "id",
    after_id: int | None = None,
    after_price: float | None = None,
    after_name: str | None = None,
) -> Response:
    """Read items by their ids, or else a page of them."""
    if not ids:
        if after_id is None:
            rows = await database.pool.fetch(SELECT_PAGE[order], limit)
        elif order == "id":
            rows = await database.pool.fetch(SELECT_NEXT[order], limit, after_id)
        else:
            rows = await database.pool.fetch(
                SELECT_NEXT[order], limit, after_id, after_price if order == "price" else after_name
            )
        return respond([Item(*row) for row in rows])
    wanted = [int(id) for id in ids.split(",")]
    found = {row[0]: Item(*row) for row in await database.pool.fetch(SELECT_BATCH, wanted)}
    return respond([found[id] for id in wanted if id in found])


@app.router.post("/items")
async def create_items(request: Request) -> Response:
    """Create an item, or a batch of them."""
    body = decode_any(await request.read() or b"")
    if isinstance(body, ItemCreate):
        (row,) = await database.pool.fetch(INSERT_ONE, body.name, body.price, body.in_stock)
        return respond(Item(*row), 201)
    columns = [item.name for item in body], [item.price for item in body], [item.in_stock for item in body]
    rows = sorted(await database.pool.fetch(INSERT_BATCH, *columns), key=itemgetter("id"))
    return respond([Item(*row) for row in rows], 201)


@app.router.put("/items/{item_id}")
async def update_item(item_id: int, request: Request) -> Response:
    """Replace an item."""
    body = decode_one(await request.read() or b"")
    row = await database.pool.fetchrow(UPDATE_ONE, item_id, body.name, body.price, body.in_stock)
    return Response(404) if row is None else respond(Item(*row))


@app.exception_handler(msgspec.DecodeError)
async def refuse(_app: Application, _request: Request, error: Exception) -> Response:
    """Refuse what cannot be decoded."""
    return Response(422, content=Content(b"application/json", encode({"detail": str(error)})))
