"""The command line: python -m service serve | migrate | token | grants | check | openapi."""

import argparse
import logging.config
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from db.errors import DatabaseError, MigrationRefused, NoSuchRevision
from service.auth.commands import add_token_actions
from service.commands.check import check
from service.commands.database import unusable
from service.commands.failure import fail
from service.commands.printing import print_document, print_grants
from service.commands.schema import change_schema
from service.commands.serve import serve
from service.commands.tokens import change_tokens
from service.observability.logging import log_settings
from service.settings import Settings
from service.settings_reader import SettingsError, read_settings

log = logging.getLogger("service")

# The settings that options of `serve` override.
OPTIONS = {"host": "ITEMSVC_HOST", "port": "PORT", "workers": "ITEMSVC_WORKERS"}
NO_HOME = "/nonexistent"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 1 if it failed, with all errors listed."""
    given = parser().parse_args(arguments)
    run: Callable[[Settings, argparse.Namespace], int] = given.run
    chosen = {OPTIONS[name]: value for name, value in vars(given).items() if name in OPTIONS and value is not None}
    try:
        settings = read_settings(os.environ, Path(".env"), chosen)
    except SettingsError as error:
        return fail("The settings cannot be used", error.errors)
    logging.config.dictConfig(
        log_settings(debug=settings.debug, level=settings.log_level, log_format=settings.log_format)
    )
    leave_closed_home()
    try:
        return run(settings, given)
    except (NoSuchRevision, MigrationRefused) as error:
        return fail("Nothing was changed", [str(error)])
    except DatabaseError as error:
        return fail(unusable(settings), [str(error)])


def leave_closed_home() -> None:
    """Set HOME to a folder that does not exist if it may not be entered, as Debian does for users that have none.

    asyncpg 0.32 looks there for certificates, and connects to no server if it may not, even if it needs none.
    """
    with suppress(RuntimeError, KeyError):  # there is none
        home = Path.home()
        try:
            (home / ".postgresql" / "postgresql.key").stat()
        except PermissionError:
            log.info("no certificate is looked for in %s, which may not be entered", home)
            os.environ["HOME"] = NO_HOME
        except OSError:  # there is no key
            pass


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    commands = argparse.ArgumentParser(prog="python -m service", description="Store items, and serve them over HTTP.")
    # Without abbreviations, as a mistyped option would be one.
    add = partial(commands.add_subparsers(required=True, metavar="COMMAND").add_parser, allow_abbrev=False)
    command = add("serve", help="serve until SIGTERM or Ctrl-C")
    for option, variable in OPTIONS.items():
        command.add_argument(f"--{option}", help=f"in place of {variable}")
    command.set_defaults(run=serve)
    command = add("migrate", help="bring the database's schema to a revision")
    command.add_argument("action", nargs="?", default="upgrade", choices=["upgrade", "downgrade", "current"])
    command.add_argument("revision", nargs="?", help="default: head; a downgrade needs one, base for an empty schema")
    command.set_defaults(run=change_schema)
    command = add("token", help="issue, list or revoke the tokens of users")
    add_token_actions(command)
    command.set_defaults(run=change_tokens)
    command = add("grants", help="print the SQL that grants a role of PostgreSQL what the service needs")
    command.add_argument("role", help="the role of DATABASE_URL, which owns no table")
    command.add_argument("--schema", default="public", help="of the tables; default: %(default)s")
    command.set_defaults(run=print_grants)
    command = add("check", help="connect, and print the database's version, its schema and the settings")
    command.set_defaults(run=check)
    command = add("openapi", help="print the OpenAPI document")
    command.set_defaults(run=print_document)
    return commands
