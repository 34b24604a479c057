"""The privileges that the service's role needs on its tables, and which of them it lacks; SQLite has no roles.

NEEDED is the one place that has them: they are granted, checked and tested by it.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import Select, String, case, column, func, literal, make_url, or_, select, values

from db.models import AuditRecord, Base, ServedRevision

READS = ("SELECT",)
ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")
AUDIT_LOG = AuditRecord.__tablename__
NEEDED: Mapping[str, Sequence[str]] = MappingProxyType(
    dict.fromkeys(Base.metadata.tables, ALL)
    | dict.fromkeys(("alembic_version", ServedRevision.__tablename__), READS)
    | {AUDIT_LOG: ("INSERT",)}  # a service that was broken into can neither change nor read what it did
)
REWRITES = ("UPDATE", "DELETE", "TRUNCATE")
MAY_REWRITE = (
    "the role of DATABASE_URL may change and delete what audit_log has ({}): let it be append-only,"
    " with the statements that python -m service grants prints, for a role that does not own the tables"
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


def grants(role: str, schema: str = "public") -> list[str]:
    """Return the SQL statements that give a role the privileges it needs, and of those on the audit log no others."""
    quote = make_url("postgresql+asyncpg://").get_dialect()().identifier_preparer.quote
    role, schema = quote(role), quote(schema)
    by_privileges: dict[Sequence[str], list[str]] = {}
    for name, privileges in NEEDED.items():
        by_privileges.setdefault(privileges, []).append(f"{schema}.{quote(name)}")
    return [
        f"GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"REVOKE ALL ON {schema}.{AUDIT_LOG} FROM {role}",  # of default privileges
        *(f"GRANT {', '.join(each)} ON {', '.join(sorted(names))} TO {role}" for each, names in by_privileges.items()),
    ]


def rewriting_privileges() -> Select[tuple[str]]:
    """Return a SELECT of the privileges of the role with which it could change what the audit log has."""
    names = values(column("privilege", String), name="rewriting", literal_binds=True).data([(one,) for one in REWRITES])
    privilege, found = names.c.privilege, func.to_regclass(literal(AUDIT_LOG, literal_execute=True))
    may = case(
        (privilege == "UPDATE", func.has_any_column_privilege(found, privilege)),
        else_=func.has_table_privilege(found, privilege),
    )
    return select(privilege).where(may)


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


def described_excess(rewriting: Iterable[Sequence[Any]]) -> str:
    """Return what a role had better not be allowed, of rows of `rewriting_privileges`; "" for nothing."""
    found = ", ".join(str(privilege) for (privilege,) in rewriting)
    return MAY_REWRITE.format(found) if found else ""
