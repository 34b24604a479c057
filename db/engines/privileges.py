"""The privileges that the service's role needs on its tables, and which of them it lacks; SQLite has no roles."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import Select, String, case, column, func, or_, select, values

from db.models import Base, ServedRevision

READS = ("SELECT",)
ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")
NEEDED: Mapping[str, Sequence[str]] = MappingProxyType(
    dict.fromkeys(Base.metadata.tables, ALL) | dict.fromkeys(("alembic_version", ServedRevision.__tablename__), READS)
)


def lacked_privileges() -> Select[tuple[str, str, bool]]:
    """Return a SELECT of (table, privilege, whether there is such a table) for each privilege that the role lacks.

    A privilege on some columns counts, as which of them are written is the grantor's to know. A table in a schema that
    the role may not use does not exist for it. No privilege is needed to ask.
    """
    names = column("name", String), column("privilege", String)
    pairs = [(name, privilege) for name, privileges in NEEDED.items() for privilege in privileges]
    needed = values(*names, name="needed", literal_binds=True).data(pairs)
    name, privilege = needed.c.name, needed.c.privilege
    found = func.to_regclass(name)
    may = case(
        (privilege == "DELETE", func.has_table_privilege(found, privilege)),  # no column has it
        else_=func.has_any_column_privilege(found, privilege),
    )
    return select(name, privilege, found.is_not(None)).where(or_(found.is_(None), may.is_(False)))


def described(lacked: Iterable[Sequence[Any]]) -> str:
    """Return what a role lacks, of rows of `lacked_privileges`; "" for nothing."""
    by_table: dict[tuple[str, bool], list[str]] = {}
    for name, privilege, exists in lacked:
        by_table.setdefault((str(name), bool(exists)), []).append(str(privilege))
    missing = [name for name, exists in by_table if not exists]
    denied = [f"{', '.join(privileges)} on {name}" for (name, exists), privileges in by_table.items() if exists]
    parts = [f"no table {', '.join(missing)} can be found"] if missing else []
    if denied:
        parts.append(f"the role of DATABASE_URL lacks {'; '.join(denied)}: GRANT them")
    return ", and ".join(parts)
