"""The tables, as SQLAlchemy models."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    text,
    true,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from db.types import BigIntId, Float64, Ids, Name, Timestamp, utc_now

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

FIRST_VERSION = 1
OWNED = "owner_id IS NOT NULL"
EXPIRING = "expires_at IS NOT NULL"


class Base(DeclarativeBase):
    """The base class of the models; its metadata is what the migrations are compared with."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class Item(Base):
    """A product in a shop: its name, its price, and whether it is in stock."""

    __tablename__ = "items"

    id: Mapped[int] = mapped_column(BigIntId, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(Name)
    price: Mapped[float] = mapped_column(Float64)
    in_stock: Mapped[bool] = mapped_column(Boolean, server_default=true())
    owner_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("users.id"))
    version: Mapped[int] = mapped_column(BigInteger, server_default=f"{FIRST_VERSION}")
    created_at: Mapped[datetime] = mapped_column(Timestamp, server_default=utc_now())
    updated_at: Mapped[datetime] = mapped_column(Timestamp, server_default=utc_now())

    __table_args__ = (
        CheckConstraint("length(name) BETWEEN 1 AND 255", name="name_length"),
        # The upper bound excludes Infinity, and NaN too, which PostgreSQL sorts above everything.
        CheckConstraint("price >= 0 AND price <= 1.7976931348623157e308", name="price_finite"),
        CheckConstraint("in_stock IN (false, true)", name="in_stock_boolean"),
        CheckConstraint("version >= 1", name="version_positive"),
        # One index for each order of the list, each ending in the id that makes the order total.
        Index(None, "name", "id"),
        Index(None, "price", "id"),
        Index(None, "created_at", "id"),
        Index(None, "in_stock", "id"),
        # Partial, so that an item of nobody costs nothing.
        Index(None, "owner_id", "id", postgresql_where=text(OWNED), sqlite_where=text(OWNED)),
        {"sqlite_autoincrement": True},  # an id is never used twice
    )


class User(Base):
    """A person who may own items, and how they sign in."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(BigIntId, Identity(), primary_key=True)
    username: Mapped[str] = mapped_column(Name, unique=True)
    email: Mapped[str] = mapped_column(Name)
    email_folded: Mapped[str] = mapped_column(Name, unique=True)  # db.types.fold(email)
    name: Mapped[str] = mapped_column(Name)
    role: Mapped[str] = mapped_column(String(16), server_default="writer")
    is_active: Mapped[bool] = mapped_column(Boolean, server_default=true())
    password_hash: Mapped[str | None] = mapped_column(Text)
    version: Mapped[int] = mapped_column(BigInteger, server_default=f"{FIRST_VERSION}")
    created_at: Mapped[datetime] = mapped_column(Timestamp, server_default=utc_now())
    updated_at: Mapped[datetime] = mapped_column(Timestamp, server_default=utc_now())

    # owner_id is written as a column: the ORM must not set it to NULL when it deletes a user.
    items: Mapped[list[Item]] = relationship(order_by=Item.id, lazy="raise", viewonly=True)

    # What is unique admits any 32 hexadecimal characters, which an update that swaps values passes through.
    __table_args__ = (
        CheckConstraint("length(username) BETWEEN 3 AND 50", name="username_length"),
        CheckConstraint("length(email) BETWEEN 3 AND 255", name="email_length"),
        CheckConstraint("length(email_folded) BETWEEN 3 AND 255", name="email_folded_length"),
        CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),
        CheckConstraint("role IN ('reader', 'writer', 'admin')", name="role_known"),
        CheckConstraint("is_active IN (false, true)", name="is_active_boolean"),
        CheckConstraint("version >= 1", name="version_positive"),
        # As for items, save that a unique column is a total order: both databases read a page in the order of
        # (username, id) from the index of its constraint, and a second one would double the cost of an insert.
        Index(None, "created_at", "id"),
        Index(None, "role", "id"),
        Index(None, "is_active", "id"),
        {"sqlite_autoincrement": True},
    )


class Token(Base):
    """A secret by which a user's programs are known: its digest, and the prefix by which it is found."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(BigIntId, Identity(), primary_key=True)
    # A token does not guard its user: it is deleted with them.
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Name)
    prefix: Mapped[str] = mapped_column(String(16))
    digest: Mapped[str] = mapped_column(String(64))  # SHA-256 in hexadecimal
    expires_at: Mapped[datetime | None] = mapped_column(Timestamp)
    last_used_at: Mapped[datetime | None] = mapped_column(Timestamp)
    version: Mapped[int] = mapped_column(BigInteger, server_default=f"{FIRST_VERSION}")
    created_at: Mapped[datetime] = mapped_column(Timestamp, server_default=utc_now())
    updated_at: Mapped[datetime] = mapped_column(Timestamp, server_default=utc_now())

    __table_args__ = (
        CheckConstraint("length(name) BETWEEN 1 AND 255", name="name_length"),
        CheckConstraint("length(digest) = 64", name="digest_length"),
        CheckConstraint("version >= 1", name="version_positive"),
        Index(None, "prefix"),  # not unique: a prefix is no secret, and two tokens may have the same
        Index(None, "user_id", "id"),
        Index(None, "expires_at", postgresql_where=text(EXPIRING), sqlite_where=text(EXPIRING)),  # finds expired rows
        {"sqlite_autoincrement": True},
    )


class AuditRecord(Base):
    """A change of a user or a token: who made it, when, and by which request. It is never changed."""

    __tablename__ = "audit_log"

    id: Mapped[int] = mapped_column(BigIntId, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(Timestamp, server_default=utc_now())
    caller: Mapped[int | None] = mapped_column(BigInteger)  # a user's id; no reference, as it outlives the user
    how: Mapped[str] = mapped_column(String(32))  # such as "api"
    action: Mapped[str] = mapped_column(String(16))
    resource: Mapped[str] = mapped_column(String(63))  # the name of the table
    row_id: Mapped[int] = mapped_column(BigInteger)
    # The fields that it changed, each with [old, new] or null: most values are nobody's business here.
    changes: Mapped[dict[str, Any]] = mapped_column(JSON)
    request_id: Mapped[str | None] = mapped_column(String(128))

    __table_args__ = (
        CheckConstraint("action IN ('create', 'update', 'delete')", name="action_known"),
        Index(None, "at"),
        Index(None, "resource", "row_id"),
        {"sqlite_autoincrement": True},
    )


class IdempotencyRecord(Base):
    """A write with an idempotency key: the digests of its request, and the response that a repeat of it gets."""

    __tablename__ = "idempotency_keys"

    scope: Mapped[str] = mapped_column(Text, primary_key=True)  # a digest of the caller, method, path and key
    fingerprint: Mapped[str] = mapped_column(Text)  # a digest of the rest of the request
    response: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(Timestamp, server_default=utc_now())

    __table_args__ = (Index(None, "created_at"),)  # finds expired rows


class CommitRecord(Base):
    """A write that was committed, for a worker that lost the connection before the response; SQLite needs none."""

    __tablename__ = "commit_records"

    token: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    ids: Mapped[list[int] | None] = mapped_column(Ids)  # of the written rows; NULL: it must not commit any more
    created_at: Mapped[datetime] = mapped_column(Timestamp, server_default=utc_now())


class ServedRevision(Base):
    """A revision whose code can use the schema as it is: the schema's own, and those that only lack additions to it."""

    __tablename__ = "served_revisions"

    revision: Mapped[str] = mapped_column(String(32), primary_key=True)


def table(model: type[Base]) -> Table:
    """Return the Core table behind a model."""
    assert isinstance(model.__table__, Table)  # noqa: S101 - narrows the type: every model here maps a table
    return model.__table__
