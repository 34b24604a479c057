"""The table as the migrations made it, and its pages, for the peers that use SQLAlchemy's ORM."""

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, Select, func, select, tuple_
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The declarative base."""


class Item(Base):
    """A row of the table."""

    __tablename__ = "items"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str]
    price: Mapped[float]
    in_stock: Mapped[bool] = mapped_column(default=True)
    owner_id: Mapped[int | None] = mapped_column(BigInteger)
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), onupdate=func.now()
    )


def page(
    limit: int,
    order: str = "id",
    after_id: int | None = None,
    after_price: float | None = None,
    after_name: str | None = None,
) -> Select[Item]:
    """Select the first page of an order, or the page after the row with these values."""
    if order == "id":
        items = select(Item).order_by(Item.id)
        return (items if after_id is None else items.where(Item.id > after_id)).limit(limit)
    column, value = (Item.price, after_price) if order == "price" else (Item.name, after_name)
    items = select(Item).order_by(column, Item.id)
    return (items if after_id is None else items.where(tuple_(column, Item.id) > (value, after_id))).limit(limit)
