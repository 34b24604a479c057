"""The context: everything that handlers use, made once by the application."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Self

from db.items import Items
from db.transactions.idempotency import IdempotencyKey
from service.http.body import BodyReader
from service.schemas import ItemResponse
from service.settings import Settings
from service.worker_state import WorkerState


class Context(NamedTuple):
    """What handlers use of the application; a request with a deadline or a key of its own has a copy."""

    settings: Settings
    items: Items[ItemResponse]
    revision: Callable[[], Awaitable[str | None]]  # reads the schema's revision from the database
    bodies: BodyReader
    document: Callable[[], dict[str, Any]]  # returns the OpenAPI document
    worker_state: WorkerState

    def until(self, deadline: float) -> Self:
        """Return the context of a request with a deadline of its own, by the loop's clock."""
        return self._replace(items=self.items.until(deadline))

    def keyed(self, key: IdempotencyKey) -> Self:
        """Return the context of a request with an Idempotency-Key: its write happens once."""
        return self._replace(items=self.items.with_idempotency_key(key))
