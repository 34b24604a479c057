"""The revisions of the schema, as the scripts in migrations/versions name them; alembic is not needed to read them."""

import re
from ast import literal_eval
from functools import cache
from pathlib import Path
from typing import Literal

Action = Literal["upgrade", "downgrade"]

BASE = "base"  # before the first revision
FOLDER = Path(__file__).parent / "migrations"
ASSIGNMENT = re.compile(r"^(revision|down_revision)(?:: [^=]+)? = (.+)", re.MULTILINE)


@cache
def revisions() -> tuple[str, ...]:
    """Return the revisions, from the first to the newest. Raise RuntimeError unless they are one chain."""
    following: dict[str | None, str] = {}
    for script in (FOLDER / "versions").glob("*.py"):
        assigned = dict(ASSIGNMENT.findall(script.read_text(encoding="utf-8")))
        if len(assigned) < 2:  # noqa: PLR2004
            raise RuntimeError(f"{script.name} does not assign revision and down_revision")
        before, revision = (literal_eval(assigned[name]) for name in ("down_revision", "revision"))
        if before in following:
            raise RuntimeError(f"the revisions {following[before]} and {revision} both follow {before or BASE}")
        following[before] = revision
    chain = [following[None]]
    while chain[-1] in following:
        chain.append(following[chain[-1]])
    return tuple(chain)


def head() -> str:
    """Return the newest revision, which this code is written for."""
    return revisions()[-1]
