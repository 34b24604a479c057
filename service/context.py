"""What handlers are given: made once, by the application, and never changed."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from db.items import Items
from service.schemas import ItemResponse
from service.settings import Settings


class Context(NamedTuple):
    """The application, as handlers see it."""

    settings: Settings
    items: Items[ItemResponse]
    revision: Callable[[], Awaitable[str | None]]  # the schema's, asked of the database
    document: Callable[[], dict[str, Any]]  # OpenAPI
