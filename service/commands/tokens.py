"""python -m service token."""

import argparse

from db import migrate
from db.engines.database import Database
from db.errors import NotFound
from service import signals
from service.auth import commands
from service.auth.commands import NoSuchUser
from service.commands.database import look, with_database
from service.commands.failure import fail
from service.settings import Settings


def change_tokens(settings: Settings, given: argparse.Namespace) -> int:
    """Issue, list or revoke tokens."""

    async def run(database: Database) -> str:
        if database.auto_migrate:
            await migrate.upgrade(database)
        elif (schema := (await look(database))[1]).obstacle is not None:
            raise NoSuchUser(schema.obstacle)
        return await commands.run(database, given)

    try:
        print(signals.run(with_database(settings, run)))
    except (NoSuchUser, NotFound) as error:
        return fail("Nothing was changed", [str(error)])
    return 0
