"""${message}."""

import sqlalchemy as sa
from alembic import op

${imports + "\n" if imports else ""}\
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}
additive = False  # True if the code of the revision before can use the new schema (docs/operations.md)


def upgrade() -> None:
    """Apply."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Undo."""
    ${downgrades if downgrades else "pass"}
