#!/usr/bin/env bash
# SQLAlchemy 2.1.9: a LATERAL subquery refers to a table that stands before it by itself; one inside another LATERAL
# subquery does not. The inner one has the table once more in its own FROM, as a cross join that no warning mentions:
# the top rows of each group become the top rows of all groups together, the same for each. correlate(table) on both
# is what helps.
#
# Guessed before: lateral() correlates to whatever encloses it, or compiling fails, as it does in a subquery of a WHERE.
#
# Seen: one level: FROM items
#       two levels: FROM items, groups
#       two levels, correlate() on both: FROM items
#
# Source: sqlalchemy/sql/compiler.py, SQLCompiler._setup_select_stack, and sql/selectable.py, _get_display_froms: what is
# correlated are FROM elements of the SELECT that encloses; docs.sqlalchemy.org, "LATERAL correlation".

set -euo pipefail
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check --no-deps sqlalchemy==2.1.9 typing-extensions==4.16.0

cd "$work"
"$work/venv/bin/python" -W error - <<'EOF'
import re
import sys

from sqlalchemy import column, select, table, true
from sqlalchemy.dialects import postgresql

groups, items = table("groups", column("id")), table("items", column("id"), column("group_id"))
top = select(items.c.id).where(items.c.group_id == groups.c.id).order_by(items.c.id).limit(10)


def innermost_from(lateral):
    """Return the FROM clause of the innermost SELECT of each group's rows."""
    statement = select(groups.c.id, lateral.c.id).select_from(groups.join(lateral, true()))
    sql = str(statement.compile(dialect=postgresql.dialect()))
    return re.findall(r"FROM ([^()]*?)\s*\nWHERE", sql)[-1]


def two_levels(inner, correlate):
    outer = select(inner.lateral("inner_rows").c.id).limit(3)
    return correlate(outer).lateral("outer_rows")


seen = {
    "one level": innermost_from(top.lateral("rows")),
    "two levels": innermost_from(two_levels(top, lambda outer: outer)),
    "two levels, correlate() on both": innermost_from(
        two_levels(top.correlate(groups), lambda outer: outer.correlate(groups))
    ),
}
for case, clause in seen.items():
    print(f"{case}: FROM {clause}")
sys.exit(list(seen.values()) != ["items", "items, groups", "items"])
EOF
