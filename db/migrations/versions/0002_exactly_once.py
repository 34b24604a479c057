"""What it takes to write exactly once: idempotency keys, and receipts."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NOW = {"postgresql": "now()", "sqlite": "(strftime('%Y-%m-%d %H:%M:%f000', 'now'))"}


def upgrade() -> None:
    """Create both tables."""
    now = sa.text(NOW[op.get_context().dialect.name])
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "idempotency_keys",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_table(
        "receipts",
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("ids", ARRAY(sa.BigInteger()).with_variant(sa.JSON(), "sqlite"), nullable=True),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_receipts")),
    )


def downgrade() -> None:
    """Drop both."""
    op.drop_table("receipts")
    op.drop_table("idempotency_keys")
