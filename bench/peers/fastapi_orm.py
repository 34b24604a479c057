"""The usual guide: FastAPI, pydantic models, and an SQLAlchemy session for each request.

Written as the documentation of both writes it: engine defaults, `Depends(get_session)`, entities, commit and refresh.
"""

import os
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from bench.peers.models import Item, page


class ItemCreate(BaseModel):
    """What a client sends."""

    name: str = Field(min_length=1, max_length=255)
    price: float = Field(ge=0, allow_inf_nan=False)
    in_stock: bool = True


class ItemPublic(ItemCreate):
    """What a client receives."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    owner_id: int | None
    version: int
    created_at: datetime
    updated_at: datetime


engine = create_async_engine(os.environ["DATABASE_URL"])
async_session = async_sessionmaker(engine, expire_on_commit=False)


async def get_session() -> AsyncGenerator[AsyncSession]:
    """Open one session for one request."""
    async with async_session() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(get_session)]

app = FastAPI()


@app.post("/items", status_code=201, response_model=ItemPublic)
async def create_item(item: ItemCreate, session: SessionDep) -> Item:
    """Create an item."""
    db_item = Item(**item.model_dump())
    session.add(db_item)
    await session.commit()
    await session.refresh(db_item)
    return db_item


@app.get("/items", response_model=list[ItemPublic])
async def read_items(
    session: SessionDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    order: Literal["id", "price", "name"] = "id",
    after_id: int | None = None,
    after_price: float | None = None,
    after_name: str | None = None,
) -> list[Item]:
    """Read a page of items."""
    result = await session.scalars(page(limit, order, after_id, after_price, after_name))
    return list(result.all())


@app.get("/items/{item_id}", response_model=ItemPublic)
async def read_item(item_id: int, session: SessionDep) -> Item:
    """Read one item."""
    db_item = await session.get(Item, item_id)
    if db_item is None:
        raise HTTPException(status_code=404, detail="Item not found")
    return db_item


@app.put("/items/{item_id}", response_model=ItemPublic)
async def update_item(item_id: int, item: ItemCreate, session: SessionDep) -> Item:
    """Replace an item."""
    db_item = await session.get(Item, item_id)
    if db_item is None:
        raise HTTPException(status_code=404, detail="Item not found")
    for field, value in item.model_dump().items():
        setattr(db_item, field, value)
    db_item.version += 1
    session.add(db_item)
    await session.commit()
    await session.refresh(db_item)
    return db_item
