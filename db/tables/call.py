"""What a request asks of its statements, handed down from verb to verb."""

from math import inf
from typing import NamedTuple, Self

from db.transactions.idempotency import IdempotencyKey


class Call(NamedTuple):
    """What one request asks of its statements; it is handed down, and kept by none."""

    deadline: float = inf  # by the loop's clock; no request takes longer than the service's own limit
    idempotency: IdempotencyKey | None = None

    def by(self, deadline: float) -> Self:
        """Return the call with the earlier of two deadlines."""
        return self._replace(deadline=min(deadline, self.deadline))
