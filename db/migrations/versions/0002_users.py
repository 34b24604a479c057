"""Users, and the user that owns an item.

On PostgreSQL the new column of `items` is NULL in every row, and its foreign key comes in the same statement: no row is
written or checked. But that statement takes the table for itself, as it does `users`, until the migration ends: until
the index, which is empty at first, has scanned the table, about two seconds for ten million items. On SQLite
the same statement spares a copy of the table, which would forget the ids of items that were deleted.
"""

import sqlalchemy as sa
from alembic import op

from db.types import utc_now

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
additive = True

TEXT = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
TIMESTAMP = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the table, and the column that refers to it."""
    op.create_table(
        "users",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(), nullable=False),
        *(sa.Column(name, TEXT, nullable=False) for name in ("username", "email", "email_folded", "name")),
        sa.Column("role", sa.String(16), server_default="writer", nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", TIMESTAMP, server_default=utc_now(), nullable=False),
        sa.Column("updated_at", TIMESTAMP, server_default=utc_now(), nullable=False),
        sa.CheckConstraint("length(username) BETWEEN 3 AND 50", name=op.f("ck_users_username_length")),
        sa.CheckConstraint("length(email) BETWEEN 3 AND 255", name=op.f("ck_users_email_length")),
        sa.CheckConstraint("length(email_folded) BETWEEN 3 AND 255", name=op.f("ck_users_email_folded_length")),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 100", name=op.f("ck_users_name_length")),
        sa.CheckConstraint("role IN ('reader', 'writer', 'admin')", name=op.f("ck_users_role_known")),
        sa.CheckConstraint("is_active IN (false, true)", name=op.f("ck_users_is_active_boolean")),
        sa.CheckConstraint("version >= 1", name=op.f("ck_users_version_positive")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("username", name=op.f("uq_users_username")),
        sa.UniqueConstraint("email_folded", name=op.f("uq_users_email_folded")),
        sqlite_autoincrement=True,
    )
    for column in ("created_at", "role", "is_active"):
        op.create_index(f"ix_users_{column}_id", "users", [column, "id"])
    op.execute("ALTER TABLE items ADD COLUMN owner_id BIGINT CONSTRAINT fk_items_owner_id_users REFERENCES users (id)")
    owned = sa.text("owner_id IS NOT NULL")
    op.create_index("ix_items_owner_id_id", "items", ["owner_id", "id"], postgresql_where=owned, sqlite_where=owned)


def downgrade() -> None:
    """Drop the column and the table, their indexes with them."""
    op.drop_index("ix_items_owner_id_id", "items")
    op.drop_column("items", "owner_id")
    op.drop_table("users")
