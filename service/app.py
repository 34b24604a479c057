"""The composition root: the only place that constructs the parts of the application, and connects them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache, partial

from starlette.middleware import Middleware
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from db import migrate
from db.batching.queue import Limits
from db.engines.database import Options
from db.engines.engine import open_database
from db.items import Items
from db.transactions.retention import ExpiredRowsCleaner
from service.context import Context
from service.http.body import BodyReader
from service.http.middleware import RequestMiddleware
from service.http.problems import NO_SUCH_PATH, ProblemError
from service.openapi.document import document
from service.routes import ROUTES
from service.schemas import ItemResponse
from service.settings import Settings
from service.worker_state import WorkerState


def create_app(settings: Settings, worker_state: WorkerState | None = None) -> Router:
    """Return the application; it connects to the database when its lifespan starts."""
    worker_state = worker_state or WorkerState()
    database = open_database(
        settings.database_url,
        Options(
            pool_size=settings.pool_size,
            pool_wait_ms=settings.pool_wait_ms,
            connect_timeout_ms=settings.connect_timeout_ms,
            statement_timeout_ms=settings.statement_timeout_ms,
            pgbouncer=settings.pgbouncer,
            echo=settings.debug,
            latest_primary=worker_state.latest_primary,
        ),
    )
    limits = Limits(
        settings.batch_size_max, settings.queue_length_max, settings.queue_wait_ms_max, settings.request_timeout_ms
    )
    items = Items(database, ItemResponse, limits=limits, coalesce=settings.coalesce, connections=settings.pool_size)
    probe = migrate.probe(database)

    bodies = BodyReader(
        bytes_max=settings.body_bytes_max,
        timeout_ms=settings.body_timeout_ms,
        bytes_per_s_min=settings.body_bytes_per_s_min,
    )
    context = Context(
        settings, items, partial(probe.submit, None), bodies, cache(partial(document, ROUTES)), worker_state
    )

    @asynccontextmanager
    async def lifespan(_app: Router) -> AsyncIterator[dict[str, Context]]:
        try:
            if database.auto_migrate:
                await migrate.upgrade(database)
            async with items, probe, ExpiredRowsCleaner(database, key_lifetime_s=settings.idempotency_key_lifetime_s):
                worker_state.start()
                yield {"context": context}
        finally:
            await database.close()

    middleware = Middleware(
        RequestMiddleware,
        requests_max=settings.requests_max,
        worker_state=worker_state,
        access_log=settings.access_log,
        slow_request_ms=settings.slow_request_ms,
        debug=settings.debug,
    )
    # The router alone: RequestMiddleware responds to exceptions, which is all that the class Starlette would add here.
    return Router(ROUTES, redirect_slashes=False, default=no_such_path, lifespan=lifespan, middleware=[middleware])


async def no_such_path(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - an ASGI application
    """Raise a 404 for a path that is not in ROUTES."""
    raise ProblemError(NO_SUCH_PATH, "There is nothing at this path.")
