"""FasterAPI, msgspec Structs, and an SQLAlchemy session for each request.

Written as FasterAPI's SQLAlchemy guide writes it, with two changes that its release asks for: handlers open the
session, because `Depends` hands a generator on as it is, and they convert numbers, because parameters arrive as text.
"""

import os
from datetime import datetime
from typing import Annotated

import msgspec
from FasterAPI import Faster, HTTPException, Path, Query
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from bench.peers.models import Item, page


class ItemCreate(msgspec.Struct):
    """What a client sends."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    price: Annotated[float, msgspec.Meta(ge=0)]
    in_stock: bool = True


class ItemResponse(msgspec.Struct):
    """What a client receives."""

    id: int
    name: str
    price: float
    in_stock: bool
    owner_id: int | None
    version: int
    created_at: datetime
    updated_at: datetime


engine = create_async_engine(os.environ["DATABASE_URL"])
session_factory = async_sessionmaker(engine, expire_on_commit=False)

app = Faster()


@app.on_shutdown
async def close_engine() -> None:
    """Close all connections."""
    await engine.dispose()


def to_response(item: Item) -> ItemResponse:
    """Copy a row into the response."""
    return ItemResponse(
        id=item.id,
        name=item.name,
        price=item.price,
        in_stock=item.in_stock,
        owner_id=item.owner_id,
        version=item.version,
        created_at=item.created_at,
        updated_at=item.updated_at,
    )


@app.get("/items")
async def list_items(
    limit: str = Query("100"),
    order: str = Query("id"),
    after_id: str = Query(""),
    after_price: str = Query("0"),
    after_name: str = Query(""),
) -> list[ItemResponse]:
    """Read a page of items."""
    async with session_factory() as db:
        last_id = int(after_id) if after_id else None
        result = await db.execute(page(int(limit), order, last_id, float(after_price), after_name))
        return [to_response(item) for item in result.scalars().all()]


@app.post("/items", status_code=201)
async def create_item(body: ItemCreate) -> ItemResponse:
    """Create an item."""
    async with session_factory() as db:
        item = Item(name=body.name, price=body.price, in_stock=body.in_stock)
        db.add(item)
        await db.flush()
        response = to_response(item)
        await db.commit()
        return response


@app.get("/items/{item_id}")
async def get_item(item_id: str = Path()) -> ItemResponse:
    """Read one item."""
    async with session_factory() as db:
        item = await db.get(Item, int(item_id))
        if item is None:
            raise HTTPException(status_code=404, detail="Item not found")
        return to_response(item)


@app.put("/items/{item_id}")
async def update_item(body: ItemCreate, item_id: str = Path()) -> ItemResponse:
    """Replace an item."""
    async with session_factory() as db:
        item = await db.get(Item, int(item_id))
        if item is None:
            raise HTTPException(status_code=404, detail="Item not found")
        item.name, item.price, item.in_stock = body.name, body.price, body.in_stock
        item.version += 1
        await db.flush()
        await db.refresh(item)
        response = to_response(item)
        await db.commit()
        return response
