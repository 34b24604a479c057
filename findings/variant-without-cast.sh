#!/usr/bin/env bash
# SQLAlchemy 2.1.9, postgresql+asyncpg: every argument has a cast to its type, $1::BIGINT, as asyncpg takes types from the
# server. A TypeDecorator keeps the cast of what it wraps. As a variant, with_variant(TypeDecorator, "postgresql"), it
# loses it, alone, though not inside an ARRAY: and where PostgreSQL cannot infer a type, as in a SELECT list in FROM, an
# argument without a cast is text: "operator does not exist: timestamp with time zone < text".
#
# Guessed before: a variant is compiled as the type that it is.
#
# Seen: DateTime: SELECT $1::TIMESTAMP WITH TIME ZONE
#       TypeDecorator of it: SELECT $1::TIMESTAMP WITH TIME ZONE
#       TypeDecorator as its variant: SELECT $1
#       ARRAY of that: SELECT $1::TIMESTAMP WITH TIME ZONE[]
#
# Source: sqlalchemy/sql/compiler.py, bindparam_string, which asks _unwrapped_dialect_impl of the type for
# render_bind_cast; sql/type_api.py, where a TypeDecorator unwraps what it decorates, and any other type returns its
# variant as it is.

set -euo pipefail
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check --no-deps sqlalchemy==2.1.9 typing-extensions==4.16.0

cd "$work"
"$work/venv/bin/python" - <<'EOF'
import sys

from sqlalchemy import ARRAY, DateTime, TypeDecorator, bindparam, select
from sqlalchemy.dialects.postgresql import asyncpg


class Moment(TypeDecorator):
    """A timestamp that is read in some way of one's own."""

    impl = DateTime(timezone=True)
    cache_ok = True


plain = DateTime(timezone=True)
variant = plain.with_variant(Moment(), "postgresql")
types = {
    "DateTime": plain,
    "TypeDecorator of it": Moment(),
    "TypeDecorator as its variant": variant,
    "ARRAY of that": ARRAY(variant),
}
seen = []
for name, kind in types.items():
    sql = str(select(bindparam("time", type_=kind).label("time")).compile(dialect=asyncpg.dialect()))
    seen.append(sql.split(" AS ")[0])
    print(f"{name}: {seen[-1]}")
cast = "SELECT $1::TIMESTAMP WITH TIME ZONE"
sys.exit(seen != [cast, cast, "SELECT $1", f"{cast}[]"])
EOF
