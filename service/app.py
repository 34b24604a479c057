"""The composition root: the only place that constructs the parts of the application, and connects them."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import cache, partial
from importlib.metadata import version
from platform import python_version
from typing import TYPE_CHECKING

from sqlalchemy import make_url
from starlette.middleware import Middleware
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from db import migrate, schema
from db.batching.queue import Limits
from db.engines.database import Options
from db.engines.engine import open_database
from db.observer import Observer, Unobserved
from db.resources.items import ITEMS
from db.resources.tokens import TOKENS, Tokens
from db.resources.users import USERS, Users
from db.tables.storage import Storage
from db.tables.store import Store
from db.transactions.retention import ExpiredRowsCleaner
from service.auth.authenticator import Authenticator, WaysIn
from service.auth.caller_limits import CallerLimits
from service.auth.certificates import ClientCertificates
from service.auth.login import Login
from service.auth.throttle import Throttle
from service.auth.tokens import StoredTokens
from service.context import Context
from service.credentials import read_credentials
from service.http.body import BodyReader
from service.http.middleware import RequestMiddleware
from service.http.operation import Resource
from service.http.problems import NO_SUCH_PATH, ProblemError
from service.http.router import PathRouter
from service.http.tracing import tracing
from service.observability.request_batches import RequestBatches
from service.observability.worker_metrics import WorkerMetrics
from service.openapi.document import VERSION, document
from service.passwords import Passwords
from service.resources.health import ready
from service.resources.items import ItemResponse
from service.resources.tokens import TokenResponse, token_response
from service.resources.users import UserResponse
from service.routes import METRICS, ROUTES
from service.settings import Settings
from service.worker_state import WorkerState

if TYPE_CHECKING:  # it imports OpenTelemetry, which may not be there
    from service.observability.traces import Traces

# How long the last spans may take to their collector when a worker ends.
SHUTDOWN_S_MAX = 2.0


def create_app(settings: Settings, worker_state: WorkerState | None = None) -> Router:
    """Return the application; it connects to the database when its lifespan starts."""
    worker_state = worker_state or WorkerState()
    routes = served_routes(settings)
    metrics = worker_metrics(routes, worker_state) if settings.metrics else None
    traces = make_traces(settings) if settings.traces else None
    observes = observer(settings, metrics, traces)
    database = open_database(settings.database_url, database_options(settings, worker_state, observes))
    storage = Storage(
        database,
        limits(settings),
        coalesce=settings.coalesce,
        batch_connections=settings.batch_connections,
        idempotency_keys_max=settings.idempotency_keys_max,
    )
    context = make_context(settings, worker_state, storage, metrics)
    # Everything that it measures has been made.
    sampler = metrics.sampler(worker_state, storage) if metrics else nullcontext()

    @asynccontextmanager
    async def lifespan(_app: Router) -> AsyncIterator[dict[str, Context]]:
        try:
            if metrics:
                worker_state.serve_metrics(metrics.exposition.text)
            if database.auto_migrate:
                await migrate.upgrade(database)
            cleaner = ExpiredRowsCleaner(database, key_lifetime_s=settings.idempotency_key_lifetime_s)
            authenticator = context.authenticator or nullcontext()
            async with traces or nullcontext(), storage, context.passwords, cleaner, authenticator:
                await worker_state.start(partial(ready, context))
                async with sampler:
                    yield {"context": context}
        finally:
            await database.close()

    middleware = [request_middleware(settings, worker_state, metrics)]
    if traces:
        middleware.insert(0, Middleware(tracing, traces=traces, ratio=settings.trace_ratio, routes=routes))
    # The router alone: RequestMiddleware responds to exceptions, which is all that the class Starlette would add here.
    return PathRouter(routes, redirect_slashes=False, default=no_such_path, lifespan=lifespan, middleware=middleware)


def make_context(
    settings: Settings, worker_state: WorkerState, storage: Storage, metrics: WorkerMetrics | None
) -> Context:
    """Return what handlers are given, with its parts."""
    users, tokens = Users(storage, USERS, UserResponse), Tokens(storage, TOKENS, token_response)
    passwords = Passwords()
    return Context(
        settings=settings,
        worker_state=worker_state,
        bodies=body_reader(settings),
        document=cache(partial(document, ROUTES, settings.auth)),
        schema=partial(schema.probe(storage).submit, None),
        check_connections=storage.check_connections,
        idempotency=storage.idempotency,
        passwords=passwords,
        login=Login(tokens.find_user, users.rehash, passwords, Throttle(settings.login_address_tries_max)),
        items=Store(storage, ITEMS, ItemResponse),
        users=users,
        tokens=tokens,
        authenticator=authenticator(settings, tokens),
        caller_limits=caller_limits(settings, worker_state) if settings.auth else None,
        metrics=metrics,
    )


def served_routes(settings: Settings) -> list[Route]:
    """Return the routes that are served: the API's, and those that a setting adds."""
    metrics = [METRICS] if settings.metrics and not settings.metrics_port else []
    return [*ROUTES, *metrics, *(docs_page() if settings.docs else ())]


def docs_page() -> Iterable[Route]:
    """Return the routes of the page /docs."""
    from service.docs.page import docs_routes  # noqa: PLC0415 - for those alone who have it on

    return docs_routes()


def worker_metrics(routes: Sequence[Route], worker_state: WorkerState) -> WorkerMetrics:
    """Return what counts for /metrics."""
    resources = [(route.path_format, route.endpoint) for route in routes if isinstance(route.endpoint, Resource)]
    routed = [(path, resource, resource.methods) for path, resource in resources]
    build = {"version": VERSION, "python": python_version(), "granian": version("granian")}
    return WorkerMetrics(worker_state.slot, routed, build)


def request_middleware(settings: Settings, worker_state: WorkerState, metrics: WorkerMetrics | None) -> Middleware:
    """Return the outermost middleware."""
    return Middleware(
        RequestMiddleware,
        requests_max=settings.requests_max,
        worker_state=worker_state,
        metrics=metrics.requests if metrics else None,
        access_log=settings.access_log,
        slow_request_ms=settings.slow_request_ms,
        server_timing=settings.server_timing,
        debug=settings.debug,
    )


def make_traces(settings: Settings) -> "Traces":
    """Return what records traces."""
    from service.observability.traces import Traces  # noqa: PLC0415 - 7 MiB and 0.2 s, of those alone who use it

    return Traces(
        database=make_url(settings.database_url).get_backend_name(),
        shutdown_s=min(SHUTDOWN_S_MAX, settings.shutdown_timeout_s / 2),
    )


def body_reader(settings: Settings) -> BodyReader:
    """Return what reads the bodies of requests."""
    return BodyReader(
        bytes_max=settings.body_bytes_max,
        timeout_ms=settings.body_timeout_ms,
        bytes_per_s_min=settings.body_bytes_per_s_min,
    )


def authenticator(settings: Settings, tokens: Tokens[TokenResponse]) -> Authenticator | None:
    """Return what finds out who calls; None if nobody is asked."""
    if not settings.auth:
        return None
    ways = WaysIn(
        token=StoredTokens(tokens.find_callers).read if "tokens" in settings.auth else None,
        certificate=ClientCertificates(tokens.find_user).read if "mtls" in settings.auth else None,
    )
    if "jwt" in settings.auth:
        from service.auth.jwt import jwt_tokens  # noqa: PLC0415 - 13 MiB and 0.2 s, of those alone who use it

        keys, jwts = jwt_tokens(settings, tokens.find_user)
        ways = ways._replace(jwt=jwts.read, used=[keys])
    return Authenticator(ways, tokens.record_use, cache_ms=settings.auth_cache_ms)


def caller_limits(settings: Settings, worker_state: WorkerState) -> CallerLimits:
    """Return what one caller may have of the worker."""
    quotas = settings.caller_requests_per_s, settings.caller_requests_max
    return CallerLimits(worker_state, settings.requests_max, *quotas)


def database_options(settings: Settings, worker_state: WorkerState, observer: Observer) -> Options:
    """Return the options of the connections to the database."""
    path = settings.database_url_file
    return Options(
        pool_size=settings.pool_size,
        pool_wait_ms=settings.pool_wait_ms,
        connect_timeout_ms=settings.connect_timeout_ms,
        statement_timeout_ms=settings.statement_timeout_ms,
        pgbouncer=settings.pgbouncer,
        echo=settings.debug,
        latest_primary=worker_state.latest_primary,
        observer=observer,
        reread_credentials=partial(read_credentials, path, settings.database_url) if path else None,
    )


def observer(settings: Settings, metrics: WorkerMetrics | None, traces: "Traces | None") -> Observer:
    """Return what is told of the data path."""
    counting = metrics.data_path if metrics else Unobserved()
    if traces is None and not settings.server_timing:
        return counting
    return RequestBatches(counting, traces.record if traces else None)


def limits(settings: Settings) -> Limits:
    """Return the bounds of each batcher."""
    return Limits(
        settings.batch_size_max, settings.queue_length_max, settings.queue_wait_ms_max, settings.request_timeout_ms
    )


async def no_such_path(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - an ASGI application
    """Raise a 404 for a path that is not in ROUTES."""
    raise ProblemError(NO_SUCH_PATH, "There is nothing at this path.")
