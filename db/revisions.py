"""The revisions of the schema, as the scripts in migrations/versions name them; alembic is not needed to read them."""

import re
from ast import literal_eval
from functools import cache
from pathlib import Path
from typing import Literal

Action = Literal["upgrade", "downgrade"]

BASE = "base"  # before the first revision
FOLDER = Path(__file__).parent / "migrations"
ASSIGNMENT = re.compile(r"^(revision|down_revision) = (.+)", re.MULTILINE)


@cache
def revisions() -> tuple[str, ...]:
    """Return the revisions, from the first to the newest; the chain has no branches."""
    following: dict[str | None, str] = {}
    for script in (FOLDER / "versions").glob("*.py"):
        assigned = dict(ASSIGNMENT.findall(script.read_text(encoding="utf-8")))
        following[literal_eval(assigned["down_revision"])] = literal_eval(assigned["revision"])
    chain = [following[None]]
    while chain[-1] in following:
        chain.append(following[chain[-1]])
    return tuple(chain)


def head() -> str:
    """Return the newest revision, which this code is written for."""
    return revisions()[-1]
