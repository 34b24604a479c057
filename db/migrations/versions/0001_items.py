"""Items, idempotency keys and commit records."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
additive = False

NOW = {"postgresql": "now()", "sqlite": "(strftime('%Y-%m-%d %H:%M:%f000', 'now'))"}
TIMESTAMP = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables, and an index for each order of a list."""
    now = sa.text(NOW[op.get_context().dialect.name])
    op.create_table(
        "items",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(), primary_key=True, nullable=False
        ),
        sa.Column("name", sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql"), nullable=False),
        sa.Column("price", sa.Double(), nullable=False),
        sa.Column("in_stock", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", TIMESTAMP, server_default=now, nullable=False),
        sa.Column("updated_at", TIMESTAMP, server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_items")),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 255", name=op.f("ck_items_name_length")),
        sa.CheckConstraint("price >= 0 AND price <= 1.7976931348623157e308", name=op.f("ck_items_price_finite")),
        sa.CheckConstraint("in_stock IN (false, true)", name=op.f("ck_items_in_stock_boolean")),
        sa.CheckConstraint("version >= 1", name=op.f("ck_items_version_positive")),
        sqlite_autoincrement=True,
    )
    for order in ("name", "price", "created_at", "in_stock"):
        op.create_index(f"ix_items_{order}_id", "items", [order, "id"])
    op.create_table(
        "idempotency_keys",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", TIMESTAMP, server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_table(
        "commit_records",
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("ids", ARRAY(sa.BigInteger()).with_variant(sa.JSON(), "sqlite"), nullable=True),
        sa.Column("created_at", TIMESTAMP, server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_commit_records")),
    )
    op.create_table(
        "served_revisions",
        sa.Column("revision", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_served_revisions")),
    )


def downgrade() -> None:
    """Drop the tables, their indexes with them."""
    for table in ("served_revisions", "commit_records", "idempotency_keys", "items"):
        op.drop_table(table)
