"""Starlette, msgspec Structs, and an SQLAlchemy session for each request.

What is left when the framework only routes: bodies are decoded and encoded by hand, a union takes one item or a batch
of them, and a session lives as long as its endpoint.
"""

import os
from datetime import datetime
from typing import Annotated, Literal

import msgspec.structs
from msgspec import Meta, Struct
from sqlalchemy import select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

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


class PageQuery(Struct):
    """Which page a client asks for."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    order: Literal["id", "price", "name"] = "id"
    after_id: int | None = None
    after_price: float | None = None
    after_name: str | None = None


engine = create_async_engine(os.environ["DATABASE_URL"])
async_session = async_sessionmaker(engine, expire_on_commit=False)
one = msgspec.json.Decoder(ItemCreate)
one_or_more = msgspec.json.Decoder(ItemCreate | list[ItemCreate])


def respond(content: Item | list[Item], status: int = 200) -> Response:
    """Encode a response."""
    public: ItemPublic | list[ItemPublic]
    if isinstance(content, list):
        public = [msgspec.convert(item, ItemPublic, from_attributes=True) for item in content]
    else:
        public = msgspec.convert(content, ItemPublic, from_attributes=True)
    return Response(msgspec.json.encode(public), status, media_type="application/json")


async def read_items(request: Request) -> Response:
    """Read items by their ids, or else a page of them."""
    async with async_session() as session:
        if ids := request.query_params.get("ids"):
            wanted = [int(id) for id in ids.split(",")]
            found = {item.id: item for item in await session.scalars(select(Item).where(Item.id.in_(wanted)))}
            return respond([found[id] for id in wanted if id in found])
        asked = msgspec.convert(dict(request.query_params), PageQuery, strict=False)
        return respond(list(await session.scalars(page(**msgspec.structs.asdict(asked)))))


async def create_items(request: Request) -> Response:
    """Create an item, or a batch of them."""
    body = one_or_more.decode(await request.body())
    sent = body if isinstance(body, list) else [body]
    items = [Item(name=item.name, price=item.price, in_stock=item.in_stock) for item in sent]
    async with async_session() as session:
        session.add_all(items)
        await session.commit()
    return respond(items if isinstance(body, list) else items[0], 201)


async def read_item(request: Request) -> Response:
    """Read one item."""
    async with async_session() as session:
        item = await session.get(Item, request.path_params["item_id"])
        if item is None:
            raise HTTPException(404, "Item not found")
        return respond(item)


async def update_item(request: Request) -> Response:
    """Replace an item."""
    body = one.decode(await request.body())
    async with async_session() as session:
        item = await session.get(Item, request.path_params["item_id"])
        if item is None:
            raise HTTPException(404, "Item not found")
        item.name, item.price, item.in_stock = body.name, body.price, body.in_stock
        item.version += 1
        await session.commit()
        await session.refresh(item)
        return respond(item)


async def refuse(_request: Request, error: Exception) -> Response:
    """Refuse what cannot be decoded."""
    return Response(msgspec.json.encode({"detail": str(error)}), 422, media_type="application/json")


app = Starlette(
    routes=[
        Route("/items", read_items, methods=["GET"]),
        Route("/items", create_items, methods=["POST"]),
        Route("/items/{item_id:int}", read_item, methods=["GET"]),
        Route("/items/{item_id:int}", update_item, methods=["PUT"]),
    ],
    exception_handlers={msgspec.DecodeError: refuse},
)
