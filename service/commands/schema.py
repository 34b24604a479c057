"""python -m service migrate."""

import argparse

from db import migrate
from db.engines.database import Database
from db.schema import Schema, current_schema
from service import signals
from service.commands.database import with_database
from service.commands.failure import fail
from service.settings import Settings


def change_schema(settings: Settings, given: argparse.Namespace) -> int:
    """Run a migration, and print the schema's revision."""

    async def run(database: Database) -> Schema:
        if given.action == "upgrade":
            await migrate.upgrade(database, given.revision or "head")
        elif given.action == "downgrade":
            await migrate.downgrade(database, given.revision)
        return await current_schema(database)

    if given.action == "downgrade" and given.revision is None:
        return fail("Nothing was changed", ["a downgrade needs a revision; base is the empty schema"])
    schema = signals.run(with_database(settings, run))
    print(f"The schema is at {schema.revision}.")
    return 0
