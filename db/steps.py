"""The steps between revisions, which alembic makes: whoever changes no schema does without it."""

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

from db.errors import NoSuchRevision
from db.revisions import FOLDER, Action

ACTIONS = {"upgrade": command.upgrade, "downgrade": command.downgrade}


def run(connection: Connection, action: Action, revision: str, passed: list[str]) -> None:
    """Bring the schema to a revision in the connection's transaction, and note in `passed` those that it reaches.

    Raise NoSuchRevision.
    """
    try:
        ACTIONS[action](config(connection, passed), revision)
    except CommandError as error:
        raise NoSuchRevision(str(error)) from error


def config(connection: Connection | None = None, passed: list[str] | None = None) -> Config:
    """Return what alembic is configured with."""
    config = Config(attributes={"connection": connection, "passed": passed})
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))  # or it would stand for an option
    return config
