"""Responder, pydantic models, and an SQLAlchemy session for each request.

Written as Responder's SQLAlchemy tutorial writes it: a session dependency, return annotations, commit and refresh.
Only `abort`, which has no types, is replaced by what it raises.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import responder
from pydantic import BaseModel, ConfigDict, Field
from responder import Query
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from starlette.exceptions import HTTPException

from bench.peers.models import Item, page


class ItemIn(BaseModel):
    """What a client sends."""

    name: str = Field(min_length=1, max_length=255)
    price: float = Field(ge=0, allow_inf_nan=False)
    in_stock: bool = True


class ItemOut(ItemIn):
    """What a client receives."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    owner_id: int | None
    version: int
    created_at: datetime
    updated_at: datetime


engine = create_async_engine(os.environ["DATABASE_URL"])
async_session = async_sessionmaker(engine, expire_on_commit=False)


@asynccontextmanager
async def lifespan(_app: object) -> AsyncIterator[None]:
    """Close all connections in the end."""
    yield
    await engine.dispose()


app = responder.API(lifespan=lifespan, sessions=False)


@app.dependency("session")
async def open_session() -> AsyncIterator[AsyncSession]:
    """Open one session for one request."""
    async with async_session() as session:
        yield session


@app.get("/items")
async def list_items(
    _req: responder.Request,
    _resp: responder.Response,
    *,
    session: AsyncSession,
    limit: int = Query(100, ge=1, le=1000),
    order: str = Query("id"),
    after_id: int | None = Query(None),
    after_price: float | None = Query(None),
    after_name: str | None = Query(None),
) -> list[ItemOut]:
    """Read a page of items."""
    result = await session.execute(page(limit, order, after_id, after_price, after_name))
    return [ItemOut.model_validate(item) for item in result.scalars().all()]


@app.post("/items", status_code=201)
async def create_item(
    _req: responder.Request, _resp: responder.Response, *, item: ItemIn, session: AsyncSession
) -> ItemOut:
    """Create an item."""
    new = Item(**item.model_dump())
    session.add(new)
    await session.commit()
    await session.refresh(new)
    return ItemOut.model_validate(new)


@app.get("/items/{item_id:int}")
async def get_item(
    _req: responder.Request, _resp: responder.Response, *, item_id: int, session: AsyncSession
) -> ItemOut:
    """Read one item."""
    item = await session.get(Item, item_id)
    if item is None:
        raise HTTPException(404, detail="Item not found")
    return ItemOut.model_validate(item)


@app.put("/items/{item_id:int}")
async def update_item(
    _req: responder.Request, _resp: responder.Response, *, item_id: int, item: ItemIn, session: AsyncSession
) -> ItemOut:
    """Replace an item."""
    existing = await session.get(Item, item_id)
    if existing is None:
        raise HTTPException(404, detail="Item not found")
    for key, value in item.model_dump().items():
        setattr(existing, key, value)
    existing.version += 1
    await session.commit()
    await session.refresh(existing)
    return ItemOut.model_validate(existing)
