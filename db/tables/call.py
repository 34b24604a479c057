"""What a request asks of its statements, handed down from verb to verb."""

import asyncio
from math import inf
from typing import NamedTuple, Self

from db.transactions.idempotency import IdempotencyKey


class Origin(NamedTuple):
    """How a call came, such as "api", and the id of its request, if there is one."""

    how: str
    request_id: str | None = None


class Call(NamedTuple):
    """What one request asks of its statements."""

    deadline: float = inf  # by the loop's clock; no request takes longer than the service's own limit
    idempotency: IdempotencyKey | None = None
    owner: int | None = None  # the user whose rows, and those of nobody, may be written; None: every row
    caller: int | None = None  # the user who calls; None: nobody was asked
    origin: Origin | None = None  # of writes to an audited table

    def within(self, limit_s: float) -> Self:
        """Return the call with a deadline no later than so many seconds from now."""
        return self._replace(deadline=min(self.deadline, asyncio.get_running_loop().time() + limit_s))
