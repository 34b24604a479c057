"""python -m service check."""

import argparse
import asyncio
from contextlib import suppress

from service import signals
from service.auth.start import refusal
from service.commands.database import look, with_database
from service.commands.failure import CANNOT_START, NOT_READY, fail
from service.otel import traces_obstacle
from service.server.connection_budget import TooFewConnections, connection_budget, within_budget
from service.server.listener import address
from service.server.tls import tls_obstacle
from service.settings import Settings


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
            return fail(CANNOT_START, [reason])
    if reason := tls_obstacle(settings) or traces_obstacle(settings):
        return fail(NOT_READY, [reason])
    version, schema, advice, connections_max = signals.run(with_database(settings, look))
    print(f"{'database':{width}}  {version}", f"{'schema':{width}}  {schema.revision}", sep="\n")
    if schema.excess:
        print(f"{'audit_log':{width}}  {schema.excess}")
    if advice:
        print(f"{'advice':{width}}  {advice}")
    if schema.obstacle is not None:
        return fail(NOT_READY, [schema.obstacle])
    try:
        within_budget(settings, connections_max)
    except TooFewConnections as error:
        return fail(CANNOT_START, [str(error)])
    return 0
