"""The context: everything that handlers use, made once by the application."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from db.resources.tokens import Tokens
from db.resources.users import Users
from db.schema import Schema
from db.tables.store import Store
from db.transactions.idempotency import Idempotency
from service.auth.authenticator import Authenticator
from service.auth.caller_limits import CallerLimits
from service.auth.login import Login
from service.http.body import BodyReader
from service.observability.worker_metrics import WorkerMetrics
from service.passwords import Passwords
from service.settings import Settings
from service.worker_state import WorkerState

if TYPE_CHECKING:  # their modules import this one
    from service.resources.items import ItemResponse
    from service.resources.tokens import TokenResponse
    from service.resources.users import UserResponse


class Context(NamedTuple):
    """What operations and their handlers use of the application."""

    settings: Settings
    worker_state: WorkerState
    bodies: BodyReader
    document: Callable[[], dict[str, Any]]  # returns the OpenAPI document
    schema: Callable[[], Awaitable[Schema]]  # reads the schema's revision from the database
    check_connections: Callable[[], Awaitable[None]]  # raises Unavailable if any kind of request can have none
    idempotency: Idempotency
    passwords: Passwords
    login: Login
    items: "Store[ItemResponse]"
    users: "Users[UserResponse]"
    tokens: "Tokens[TokenResponse]"
    authenticator: Authenticator | None = None  # None: whoever reaches the service may do everything
    caller_limits: CallerLimits | None = None  # None: callers are not told apart
    metrics: WorkerMetrics | None = None  # None: nothing is counted
