"""Litestar, msgspec Structs, and an SQLAlchemy session for each request.

Written as Litestar's SQLAlchemy tutorial writes it: a dependency that yields a session inside a transaction, which ends
before the response is sent.
"""

import os
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Annotated, Literal

from litestar import Litestar, get, post, put
from litestar.di import Provide
from litestar.exceptions import NotFoundException
from litestar.params import Parameter
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from bench.peers.models import Item, page


class ItemCreate(Struct):
    """What a client sends."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    price: Annotated[float, Meta(ge=0)]
    in_stock: bool = True


class ItemPublic(Struct):
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
sessionmaker = async_sessionmaker(engine, expire_on_commit=False)


async def provide_transaction() -> AsyncGenerator[AsyncSession]:
    """Open one session, inside a transaction, for one request."""
    async with sessionmaker() as session, session.begin():
        yield session


def public(item: Item) -> ItemPublic:
    """Copy a row into the response."""
    return ItemPublic(
        id=item.id,
        name=item.name,
        price=item.price,
        in_stock=item.in_stock,
        owner_id=item.owner_id,
        version=item.version,
        created_at=item.created_at,
        updated_at=item.updated_at,
    )


@get("/items")
async def read_items(
    transaction: AsyncSession,
    limit: Annotated[int, Parameter(ge=1, le=1000)] = 100,
    order: Literal["id", "price", "name"] = "id",
    after_id: int | None = None,
    after_price: float | None = None,
    after_name: str | None = None,
) -> list[ItemPublic]:
    """Read a page of items."""
    result = await transaction.execute(page(limit, order, after_id, after_price, after_name))
    return [public(item) for item in result.scalars().all()]


@get("/items/{item_id:int}")
async def read_item(item_id: int, transaction: AsyncSession) -> ItemPublic:
    """Read one item."""
    item = await transaction.get(Item, item_id)
    if item is None:
        raise NotFoundException(detail="Item not found")
    return public(item)


@post("/items")
async def create_item(data: ItemCreate, transaction: AsyncSession) -> ItemPublic:
    """Create an item."""
    item = Item(name=data.name, price=data.price, in_stock=data.in_stock)
    transaction.add(item)
    await transaction.flush()
    return public(item)


@put("/items/{item_id:int}")
async def update_item(item_id: int, data: ItemCreate, transaction: AsyncSession) -> ItemPublic:
    """Replace an item."""
    item = await transaction.get(Item, item_id)
    if item is None:
        raise NotFoundException(detail="Item not found")
    item.name, item.price, item.in_stock = data.name, data.price, data.in_stock
    item.version += 1
    await transaction.flush()
    await transaction.refresh(item)
    return public(item)


app = Litestar(
    [read_items, read_item, create_item, update_item],
    dependencies={"transaction": Provide(provide_transaction)},
    on_shutdown=[engine.dispose],
)
