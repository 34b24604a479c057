"""The command line: python -m service serve | migrate | token | grants | check | openapi."""

import argparse
import asyncio
import errno
import json
import logging.config
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from db import migrate
from db.engines.database import Database, Options
from db.engines.engine import open_database
from db.engines.privileges import grants
from db.errors import DatabaseError, MigrationRefused, NoSuchRevision, NotFound, UnexpectedPooler
from db.schema import Schema, current_schema
from service import signals
from service.auth import commands
from service.auth.commands import NoSuchUser, add_token_actions
from service.auth.start import refusal, say_who_may_come_in
from service.cgroup import limits
from service.observability.logging import log_settings
from service.openapi.document import document
from service.otel import traces_obstacle
from service.routes import ROUTES
from service.server.connection_budget import TooFewConnections, check_budget, connection_budget
from service.server.descriptors import TooFewFiles
from service.server.listener import address
from service.server.supervisor import Supervisor
from service.server.tls import tls_obstacle
from service.settings import Settings
from service.settings_reader import SettingsError, read_settings
from service.worker_count import memory_shortage

T = TypeVar("T")

log = logging.getLogger("service")

# The settings that options of `serve` override.
OPTIONS = {"host": "ITEMSVC_HOST", "port": "PORT", "workers": "ITEMSVC_WORKERS"}
# Their variables, and what 0 stands for.
PORTS = {"ITEMSVC_METRICS_PORT": "that of the service", "PORT": "any free one"}
ADDRESS_HINTS = {
    errno.EADDRINUSE: ": another process listens there; {variable}= chooses another port, or 0 for {zero}",
    errno.EACCES: ": ports below 1024 may need rights; {variable}= chooses another port",
    errno.EADDRNOTAVAIL: ": this machine has no such address; ITEMSVC_HOST= chooses another one",
}
NO_HOME = "/nonexistent"
NOT_READY = "The service cannot become ready"
# A migration may rewrite a table: it is not a request.
MIGRATION_TIMEOUT_MS = 3_600_000


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
        return fail(_unusable(settings), [str(error)])


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


def fail(what: str, errors: Sequence[str]) -> int:
    """Print errors, and return the exit code 1."""
    print(f"{what}:", *(f"- {error}" for error in errors), sep="\n", file=sys.stderr)
    return 1


def serve(settings: Settings, _given: argparse.Namespace) -> int:
    """Serve until stopped."""
    host, port = settings.host, settings.port
    for (variable, zero), number in zip(PORTS.items(), (settings.metrics_port, settings.port), strict=True):
        if number or variable == "PORT":
            try:
                host, port = signals.run(asyncio.to_thread(address, settings.host, number))
            except (OSError, UnicodeError) as error:
                hint = ADDRESS_HINTS.get(error.errno or 0, "") if isinstance(error, OSError) else ""
                errors = [f"{error}{hint.format(variable=variable, zero=zero)}"]
                return fail(f"The service cannot listen on {settings.host}, port {number}", errors)
    if reason := refusal(settings, host) or tls_obstacle(settings) or traces_obstacle(settings):
        return fail("The service cannot start", [reason])
    if shortage := memory_shortage(limits(), settings.workers):
        log.warning(shortage)
    if open_database(settings.database_url).auto_migrate:
        signals.run(with_database(settings, migrate.upgrade))  # before the workers, so that an error is printed once
        outage = False
    else:
        log.info(connection_budget(settings))
        try:
            outage, obstacle = signals.run(_obstacle(settings))
        except TooFewConnections as error:
            return fail("The service cannot start", [str(error)])
        if obstacle:
            log.warning(obstacle)
    try:
        supervisor = Supervisor(replace(settings, host=host, port=port), outage_logged=outage)
    except TooFewFiles as error:
        return fail("The service cannot start", [str(error)])
    say_who_may_come_in(settings, host)
    return supervisor.run()


async def _obstacle(settings: Settings) -> tuple[bool, str]:
    """Return whether the database cannot be used, and why the service cannot become ready yet; or advice, or "".

    Raises UnexpectedPooler and TooFewConnections, which are errors of the settings.
    """
    try:
        _, schema, advice, connections_max = await with_database(settings, _look, settings.statement_timeout_ms)
    except UnexpectedPooler:
        raise
    except DatabaseError as error:
        return True, f"{_unusable(settings)}: {error}"
    check_budget(settings, connections_max)
    if settings.auth and schema.excess:  # else the log does not say who it was
        log.warning(schema.excess)
    return False, f"{NOT_READY}: {schema.obstacle}" if schema.obstacle else advice


def _unusable(settings: Settings) -> str:
    return f"The database {settings.described()[0].value} cannot be used"


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


def change_tokens(settings: Settings, given: argparse.Namespace) -> int:
    """Issue, list or revoke tokens."""

    async def run(database: Database) -> str:
        if database.auto_migrate:
            await migrate.upgrade(database)
        elif (schema := (await _look(database))[1]).obstacle is not None:
            raise NoSuchUser(schema.obstacle)
        return await commands.run(database, given)

    try:
        print(signals.run(with_database(settings, run)))
    except (NoSuchUser, NotFound) as error:
        return fail("Nothing was changed", [str(error)])
    return 0


def check(settings: Settings, _given: argparse.Namespace) -> int:
    """Print the settings, the database and its schema, and the reason if the service could not become ready."""
    width = max(len(setting.variable) for setting in settings.described())
    for setting in settings.described():
        print(f"{setting.variable:{width}}  {setting.value or 'none'}")
    if settings.database_url.startswith("postgresql"):
        print(connection_budget(settings))
    with suppress(OSError, UnicodeError):  # a host that cannot be resolved here may be where the service is to run
        host, _ = signals.run(asyncio.to_thread(address, settings.host, 0))
        if reason := refusal(settings, host):
            return fail("The service cannot start", [reason])
    if reason := tls_obstacle(settings) or traces_obstacle(settings):
        return fail(NOT_READY, [reason])
    version, schema, advice, connections_max = signals.run(with_database(settings, _look))
    print(f"{'database':{width}}  {version}", f"{'schema':{width}}  {schema.revision}", sep="\n")
    if schema.excess:
        print(f"{'audit_log':{width}}  {schema.excess}")
    if advice:
        print(f"{'advice':{width}}  {advice}")
    if schema.obstacle is not None:
        return fail(NOT_READY, [schema.obstacle])
    try:
        check_budget(settings, connections_max)
    except TooFewConnections as error:
        return fail("The service cannot start", [str(error)])
    return 0


def print_grants(_settings: Settings, given: argparse.Namespace) -> int:
    """Print the SQL that grants a role what the service needs."""
    print(*(f"{statement};" for statement in grants(given.role, given.schema)), sep="\n")
    return 0


def print_document(settings: Settings, _given: argparse.Namespace) -> int:
    """Print the OpenAPI document."""
    print(json.dumps(document(ROUTES, settings.auth), indent=2))
    return 0


async def with_database(
    settings: Settings,
    use: Callable[[Database], Awaitable[T]],
    statement_timeout_ms: int = MIGRATION_TIMEOUT_MS,
) -> T:
    """Return the result of `use`, called with a database whose statements may take so long: an hour, by default."""
    options = Options(
        connect_timeout_ms=settings.connect_timeout_ms,
        statement_timeout_ms=statement_timeout_ms,
        pgbouncer=settings.pgbouncer,
        echo=settings.debug,
    )
    database = open_database(settings.database_url, options)
    try:
        return await use(database)
    finally:
        await database.close()


async def _look(database: Database) -> tuple[str, Schema, str, int | None]:
    version, schema = await database.version(), await current_schema(database)
    return version, schema, await database.advice(), await database.connections_max()
