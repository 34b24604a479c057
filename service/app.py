"""The only place that constructs things, and introduces them to each other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache, partial

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import Receive, Scope, Send

from db import migrate
from db.engine import Options, open_database
from db.items import Items
from db.lanes import Limits
from service.context import Context
from service.openapi import document
from service.problems import NO_SUCH_PATH, ProblemError
from service.routes import ROUTES
from service.schemas import ItemResponse
from service.settings import Settings
from service.telemetry import Telemetry


def create_app(settings: Settings) -> Starlette:
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

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        try:
            if database.migrates_itself:
                await migrate.upgrade(database)
            async with items, probe:
                yield
        finally:
            await database.close()

    app = Starlette(
        routes=ROUTES,
        middleware=[
            Middleware(
                Telemetry,
                access_log=settings.access_log,
                slow_request_ms=settings.slow_request_ms,
                debug=settings.debug,
            )
        ],
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.router.default = nowhere
    app.state.context = Context(settings, items, partial(probe.submit, None), cache(partial(document, ROUTES)))
    return app


async def nowhere(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - an ASGI application
    """Answer for every path that is not in ROUTES."""
    raise ProblemError(NO_SUCH_PATH, "There is nothing at this path.")
