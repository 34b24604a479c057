"""The tables, as SQLAlchemy models."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    bindparam,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class SQLiteMoment(TypeDecorator[datetime]):
    """An aware UTC datetime, which SQLite itself keeps as text without a zone."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Take the UTC wall clock, so that the order of the texts is the order of time."""
        return value and value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give the zone back."""
        return value and value.replace(tzinfo=UTC)


class SQLiteDouble(TypeDecorator[float]):
    """A float, which SQLite's RETURNING hands out as an integer where it has no fraction."""

    impl = Double
    cache_ok = True

    def process_result_value(self, value: float | None, dialect: Dialect) -> float | None:  # noqa: ARG002
        """Make it a float again."""
        return value if value is None else float(value)


# As variants, so that on PostgreSQL nothing stands between the driver and the value.
Moment = DateTime(timezone=True).with_variant(SQLiteMoment(), "sqlite")
Real: TypeEngine[float] = Double().with_variant(SQLiteDouble(), "sqlite")
# SQLite grows only an INTEGER PRIMARY KEY by itself; PostgreSQL sorts by code point only when told to.
BigKey = BigInteger().with_variant(Integer(), "sqlite")
Ids = ARRAY(BigInteger).with_variant(JSON(), "sqlite")
Name = String(255).with_variant(String(255, collation="C"), "postgresql")


class utc_now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function it is
    """The database's clock; every row of one statement gets the same moment."""

    type = Moment
    inherit_cache = True


class seconds_ago(FunctionElement[datetime]):  # noqa: N801 - as above
    """What the database's clock said so many seconds ago, to be compared with what it said when a row was made."""

    type = Moment
    inherit_cache = True

    def __init__(self, seconds: int) -> None:
        super().__init__(bindparam("seconds", seconds, type_=Integer()))


@compiles(utc_now)
def _utc_now(_element: object, _compiler: object, **_options: Any) -> str:
    return "now()"


@compiles(utc_now, "sqlite")
def _utc_now_sqlite(_element: object, _compiler: object, **_options: Any) -> str:
    # Six digits, as SQLAlchemy writes them: one width, so that text order is time order.
    return "(strftime('%Y-%m-%d %H:%M:%f000', 'now'))"


@compiles(seconds_ago)
def _seconds_ago(element: seconds_ago, compiler: SQLCompiler, **options: Any) -> str:
    return f"now() - make_interval(secs => {compiler.process(element.clauses, **options)})"


@compiles(seconds_ago, "sqlite")
def _seconds_ago_sqlite(element: seconds_ago, compiler: SQLCompiler, **options: Any) -> str:
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', -{compiler.process(element.clauses, **options)} || ' seconds')"


FIRST_VERSION = 1


class Base(DeclarativeBase):
    """The metadata that migrations are compared with."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class Item(Base):
    """A thing that is sold."""

    __tablename__ = "items"

    id: Mapped[int] = mapped_column(BigKey, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(Name)
    price: Mapped[float] = mapped_column(Real)
    in_stock: Mapped[bool] = mapped_column(Boolean, server_default=true())
    version: Mapped[int] = mapped_column(BigInteger, server_default=f"{FIRST_VERSION}")
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=utc_now())
    updated_at: Mapped[datetime] = mapped_column(Moment, server_default=utc_now())

    __table_args__ = (
        CheckConstraint("length(name) BETWEEN 1 AND 255", name="name_length"),
        # The upper bound refuses Infinity, and NaN too, which PostgreSQL sorts above everything.
        CheckConstraint("price >= 0 AND price <= 1.7976931348623157e308", name="price_finite"),
        CheckConstraint("in_stock IN (false, true)", name="in_stock_boolean"),
        CheckConstraint("version >= 1", name="version_positive"),
        # One index for each order of the list, each ending in the id that makes the order total.
        Index(None, "name", "id"),
        Index(None, "price", "id"),
        Index(None, "created_at", "id"),
        Index(None, "in_stock", "id"),
        {"sqlite_autoincrement": True},  # an id is never given out twice
    )


class IdempotencyKey(Base):
    """A write that its caller may repeat: which one it was, and what it was answered with."""

    __tablename__ = "idempotency_keys"

    scope: Mapped[str] = mapped_column(Text, primary_key=True)  # a digest: caller, method, path and key
    fingerprint: Mapped[str] = mapped_column(Text)  # a digest of what else was sent
    answer: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=utc_now())

    __table_args__ = (Index(None, "created_at"),)  # for those that are swept


class Receipt(Base):
    """A write that reached the disk, for whoever lost the connection before its answer; SQLite has no use for it."""

    __tablename__ = "receipts"

    token: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    ids: Mapped[list[int] | None] = mapped_column(Ids)  # of the rows that were touched; none if it was called off
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=utc_now())


def table(model: type[Base]) -> Table:
    """Give the Core table behind a model."""
    assert isinstance(model.__table__, Table)  # noqa: S101 - narrows the type: every model here maps a table
    return model.__table__
