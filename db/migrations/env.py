"""The environment of alembic: the connection that db.steps passes, or DATABASE_URL if alembic's own tool runs."""

import asyncio
import os
from collections.abc import Collection, Mapping
from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.util import CommandError
from sqlalchemy import Connection, False_, Identity, True_, delete, insert, inspect
from sqlalchemy.exc import ArgumentError
from sqlalchemy.types import TypeDecorator

from db.engines.database import Options
from db.engines.engine import open_database
from db.models import Base, ServedRevision
from db.types import utc_now


def run(connection: Connection) -> None:
    """Run the migrations inside the connection's transaction, or compare the database with the models."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        # A function fails at an Identity of PostgreSQL (alembic 1.20.1); without one, SQLite would seem to lack each.
        compare_server_default=sqlite_default_differs if connection.dialect.name == "sqlite" else True,
        autogenerate_plugins=["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname"],
        render_item=render,
        on_version_apply=record_served_revisions,
    )
    with context.begin_transaction():
        context.run_migrations()


def record_served_revisions(
    ctx: MigrationContext,
    step: MigrationInfo,  # noqa: ARG001 - alembic passes it
    heads: Collection[Any],
    run_args: Mapping[str, Any],  # noqa: ARG001
) -> None:
    """Record, after each revision, whose code can use the schema: that revision's, and those before its additions."""
    passed: list[str] = context.config.attributes.get("passed") or []
    passed.extend(heads)
    connection = ctx.connection
    if connection is None or not inspect(connection).has_table(ServedRevision.__tablename__):
        return
    connection.execute(delete(ServedRevision))
    [revision] = heads
    while isinstance(revision, str):  # the chain has no branches
        connection.execute(insert(ServedRevision).values(revision=revision))
        script = context.script.get_revision(revision)
        additive = getattr(script.module, "additive", None)
        if not isinstance(additive, bool):
            raise CommandError(f"the revision {revision} has no `additive = True` or `additive = False`")
        revision = script.down_revision if additive else None


def sqlite_default_differs(*arguments: Any) -> bool | None:
    """Return False for an Identity, and None, alembic's own comparison, for any other default of a column."""
    return False if isinstance(arguments[4], Identity) else None


def render(kind: str, item: Any, autogenerate: AutogenContext) -> str | Literal[False]:
    """Return how a revision writes what alembic would write for one database alone, or without an import."""
    default = getattr(item, "arg", None) if kind == "server_default" else None
    if isinstance(default, utc_now):
        autogenerate.imports.add("from db.types import utc_now")
        return "utc_now()"
    if isinstance(default, True_ | False_):
        return f"sa.{default}()"
    if kind == "type" and isinstance(item, TypeDecorator):  # it changes values, and not the column
        return f"sa.{item.impl_instance!r}"
    return False


async def connect_and_run() -> None:
    """Connect as the service does, but for statements that may take long, and run the migrations."""
    try:
        database = open_database(os.environ["DATABASE_URL"], Options(statement_timeout_ms=0))
    except KeyError:
        raise CommandError("DATABASE_URL is missing: it names the database, as for `python -m service`") from None
    except (ArgumentError, ValueError) as error:
        raise CommandError(f"DATABASE_URL cannot be used: {error}") from None
    async with database.engine.begin() as connection:
        await connection.run_sync(run)
    await database.close()


passed = context.config.attributes.get("connection")
if passed is None:
    asyncio.run(connect_and_run())
else:
    run(passed)
