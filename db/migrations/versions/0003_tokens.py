"""Tokens, by which the programs of a user are known.

It is a new table alone. Its foreign key takes `users` for itself until the migration ends, which is at once: the
table is empty.
"""

import sqlalchemy as sa
from alembic import op

from db.types import utc_now

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
additive = True

NAME = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
TIMESTAMP = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the table, with an index for the look-up of a token and one for the list of a user's."""
    op.create_table(
        "tokens",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("expires_at", TIMESTAMP, nullable=True),
        sa.Column("last_used_at", TIMESTAMP, nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", TIMESTAMP, server_default=utc_now(), nullable=False),
        sa.Column("updated_at", TIMESTAMP, server_default=utc_now(), nullable=False),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 255", name=op.f("ck_tokens_name_length")),
        sa.CheckConstraint("length(digest) = 64", name=op.f("ck_tokens_digest_length")),
        sa.CheckConstraint("version >= 1", name=op.f("ck_tokens_version_positive")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_tokens_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tokens_prefix", "tokens", ["prefix"])
    op.create_index("ix_tokens_user_id_id", "tokens", ["user_id", "id"])


def downgrade() -> None:
    """Drop the table, its indexes with it."""
    op.drop_table("tokens")
