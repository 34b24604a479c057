"""The only place that constructs things, and introduces them to each other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache, partial

from starlette.middleware import Middleware
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from db import migrate
from db.database import Options
from db.engine import open_database
from db.items import Items
from db.lanes import Limits
from service.context import Context
from service.openapi import document
from service.problems import NO_SUCH_PATH, ProblemError
from service.routes import ROUTES
from service.schemas import ItemResponse
from service.settings import Settings
from service.telemetry import Telemetry


def create_app(settings: Settings) -> Router:
    """Make the application; it connects when its lifespan starts."""
    database = open_database(
        settings.database_url,
        Options(
            pool_size=settings.pool_size,
            pool_wait_ms=settings.pool_wait_ms,
            connect_timeout_ms=settings.connect_timeout_ms,
            statement_timeout_ms=settings.statement_timeout_ms,
            echo=settings.debug,
        ),
    )
    limits = Limits(settings.set_size_max, settings.queue_length_max, settings.queue_age_ms_max)
    items = Items(database, ItemResponse, limits=limits, coalesce=settings.coalesce, connections=settings.pool_size)
    probe = migrate.probe(database)

    context = Context(settings, items, partial(probe.submit, None), cache(partial(document, ROUTES)))

    @asynccontextmanager
    async def lifespan(_app: Router) -> AsyncIterator[dict[str, Context]]:
        try:
            if database.migrates_itself:
                await migrate.upgrade(database)
            async with items, probe:
                yield {"context": context}
        finally:
            await database.close()

    telemetry = Middleware(
        Telemetry, access_log=settings.access_log, slow_request_ms=settings.slow_request_ms, debug=settings.debug
    )
    # The router alone: Telemetry answers for what is raised, which is all that the class Starlette would put around it.
    return Router(ROUTES, redirect_slashes=False, default=nowhere, lifespan=lifespan, middleware=[telemetry])


async def nowhere(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - an ASGI application
    """Answer for every path that is not in ROUTES."""
    raise ProblemError(NO_SUCH_PATH, "There is nothing at this path.")
