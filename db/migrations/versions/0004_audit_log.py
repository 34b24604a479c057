"""The audit log: changes of users and tokens, to which rows are added alone.

It is a new table, which refers to no other. On SQLite, which has no roles, triggers refuse to change or delete a row.
On PostgreSQL the role of the service has no privilege for it: see `python -m service grants`.
"""

import sqlalchemy as sa
from alembic import op

from db.types import utc_now

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
additive = True

TIMESTAMP = sa.DateTime(timezone=True)
TRIGGER = (
    "CREATE TRIGGER audit_log_{0} BEFORE {0} ON audit_log BEGIN SELECT RAISE(ABORT, 'audit_log is append-only'); END"
)


def upgrade() -> None:
    """Create the table, with an index for a span of time and one for the changes of a row."""
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(), nullable=False),
        sa.Column("at", TIMESTAMP, server_default=utc_now(), nullable=False),
        sa.Column("caller", sa.BigInteger(), nullable=True),
        sa.Column("how", sa.String(32), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("resource", sa.String(63), nullable=False),
        sa.Column("row_id", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.JSON(), nullable=False),
        sa.Column("request_id", sa.String(128), nullable=True),
        sa.CheckConstraint("action IN ('create', 'update', 'delete')", name=op.f("ck_audit_log_action_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_log_at", "audit_log", ["at"])
    op.create_index("ix_audit_log_resource_row_id", "audit_log", ["resource", "row_id"])
    if op.get_context().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(TRIGGER.format(change))


def downgrade() -> None:
    """Drop the table, its indexes and triggers with it."""
    op.drop_table("audit_log")
