"""python -m service serve."""

import argparse
import asyncio
import errno
import logging

from msgspec.structs import replace

from db import migrate
from db.engines.engine import open_database
from db.errors import DatabaseError, UnexpectedPooler
from service import signals
from service.auth.start import refusal, say_who_may_come_in
from service.cgroup import limits
from service.commands.database import look, unusable, with_database
from service.commands.failure import CANNOT_START, NOT_READY, fail
from service.otel import traces_obstacle
from service.server.connection_budget import TooFewConnections, connection_budget, within_budget
from service.server.descriptors import TooFewFiles
from service.server.listener import address
from service.server.supervisor import Supervisor
from service.server.tls import tls_obstacle
from service.settings import Settings
from service.worker_count import memory_shortage

log = logging.getLogger("service")

ADDRESS_HINTS = {
    errno.EADDRINUSE: ": another process listens there; {variable}= chooses another port, or 0 for {zero}",
    errno.EACCES: ": ports below 1024 may need rights; {variable}= chooses another port",
    errno.EADDRNOTAVAIL: ": this machine has no such address; ITEMSVC_HOST= chooses another one",
}


def serve(settings: Settings, _given: argparse.Namespace) -> int:
    """Serve until stopped."""
    try:
        if settings.metrics_port:
            _address(settings.host, settings.metrics_port, "ITEMSVC_METRICS_PORT", "that of the service")
        host, port = _address(settings.host, settings.port, "PORT", "any free one")
    except CannotListen as error:
        return fail(error.args[0], error.args[1:])
    if reason := refusal(settings, host) or tls_obstacle(settings) or traces_obstacle(settings):
        return fail(CANNOT_START, [reason])
    if shortage := memory_shortage(limits(), settings.workers):
        log.warning(shortage)
    if open_database(settings.database_url).auto_migrate:
        signals.run(with_database(settings, migrate.upgrade))  # before the workers, so that an error is printed once
        outage = False
    else:
        try:
            settings, outage, obstacle = signals.run(_within_budget(settings))
        except TooFewConnections as error:
            return fail(CANNOT_START, [str(error)])
        log.info(connection_budget(settings))
        if obstacle:
            log.warning(obstacle)
    try:
        supervisor = Supervisor(replace(settings, host=host, port=port), outage_logged=outage)
    except TooFewFiles as error:
        return fail(CANNOT_START, [str(error)])
    say_who_may_come_in(settings, host)
    return supervisor.run()


class CannotListen(Exception):
    """There is no such address, or it is another's; the texts say what failed, and why."""


def _address(host: str, port: int, variable: str, zero: str) -> tuple[str, int]:
    """Return the address to listen at, free right now; `variable` sets the port, and 0 stands for `zero`."""
    try:
        return signals.run(asyncio.to_thread(address, host, port))
    except (OSError, UnicodeError) as error:
        hint = ADDRESS_HINTS.get(error.errno or 0, "") if isinstance(error, OSError) else ""
        failed = f"The service cannot listen on {host}, port {port}"
        raise CannotListen(failed, f"{error}{hint.format(variable=variable, zero=zero)}") from error


async def _within_budget(settings: Settings) -> tuple[Settings, bool, str]:
    """Return the settings with as many workers as there can be connections for, and what is to be known at the start.

    That is whether the database cannot be used, and why the service cannot become ready yet; or advice, or "".
    Raises UnexpectedPooler and TooFewConnections, which are errors of the settings.
    """
    try:
        _, schema, advice, connections_max = await with_database(settings, look, settings.statement_timeout_ms)
    except UnexpectedPooler:
        raise
    except DatabaseError as error:
        return settings, True, f"{unusable(settings)}: {error}"
    settings = within_budget(settings, connections_max)
    if settings.auth and schema.excess:  # else the log does not say who it was
        log.warning(schema.excess)
    return settings, False, f"{NOT_READY}: {schema.obstacle}" if schema.obstacle else advice
