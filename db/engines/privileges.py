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


NO_SCHEMA = "there is no schema in the search_path that the role of DATABASE_URL may use: GRANT USAGE on the service's"


def lacked_privileges() -> Select[tuple[str, str, bool, bool]]:
    """Return a SELECT of each privilege that the role lacks.

    Its rows are (table, privilege, whether there is such a table, whether there is a schema that the role may use).

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
    has_schema = func.current_schema().is_not(None)
    return select(name, privilege, found.is_not(None), has_schema).where(or_(found.is_(None), may.is_(False)))


def described(lacked: Iterable[Sequence[Any]]) -> str:
    """Return what a role lacks, of rows of `lacked_privileges`; "" for nothing."""
    by_table: dict[tuple[str, bool], list[str]] = {}
    for name, privilege, exists, has_schema in lacked:
        if not has_schema:
            return NO_SCHEMA
        by_table.setdefault((str(name), bool(exists)), []).append(str(privilege))
    missing = [name for name, exists in by_table if not exists]
    denied = [f"{', '.join(privileges)} on {name}" for (name, exists), privileges in by_table.items() if exists]
    parts = [f"no table {', '.join(missing)} can be found"] if missing else []
    if denied:
        parts.append(f"the role of DATABASE_URL lacks {'; '.join(denied)}: GRANT them")
    return ", and ".join(parts)
