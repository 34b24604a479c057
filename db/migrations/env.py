"""The environment of alembic: the connection that db.migrate passes, or DATABASE_URL if alembic's own tool runs."""

import asyncio
import os

from alembic import context
from sqlalchemy import Connection

from db.engines.engine import open_database
from db.models import Base


def run(connection: Connection) -> None:
    """Run the migrations inside the connection's transaction."""
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


async def connect_and_run() -> None:
    """Connect as the service does, and run the migrations."""
    database = open_database(os.environ["DATABASE_URL"])
    async with database.engine.begin() as connection:
        await connection.run_sync(run)
    await database.close()


passed = context.config.attributes.get("connection")
if passed is None:
    asyncio.run(connect_and_run())
else:
    run(passed)
