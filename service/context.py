"""What handlers are given: made once, by the application, and never changed."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Self

from db.items import Items
from db.transactions.idempotency import IdempotencyKey
from service.http.body import BodyReader
from service.schemas import ItemResponse
from service.settings import Settings
from service.worker_state import WorkerState


class Context(NamedTuple):
    """The application, as handlers see it."""

    settings: Settings
    items: Items[ItemResponse]
    revision: Callable[[], Awaitable[str | None]]  # the schema's, asked of the database
    bodies: BodyReader
    document: Callable[[], dict[str, Any]]  # OpenAPI
    worker_state: WorkerState

    def until(self, deadline: float) -> Self:
        """Return the same for a request that has a deadline of its own, by the loop's clock."""
        return self._replace(items=self.items.until(deadline))

    def keyed(self, claim: IdempotencyKey) -> Self:
        """Return the same to a caller who may repeat a write."""
        return self._replace(items=self.items.keyed(claim))
