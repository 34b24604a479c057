"""An index by which expired tokens are found.

It is partial, as most tokens of programs never expire. On PostgreSQL tokens cannot be written while it is built.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
additive = True

EXPIRING = sa.text("expires_at IS NOT NULL")


def upgrade() -> None:
    """Create the index."""
    op.create_index("ix_tokens_expires_at", "tokens", ["expires_at"], postgresql_where=EXPIRING, sqlite_where=EXPIRING)


def downgrade() -> None:
    """Drop the index."""
    op.drop_index("ix_tokens_expires_at", "tokens")
