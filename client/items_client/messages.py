"""Requests and responses as they pass between a resource's methods and the connection.

What is put in between, such as retries, is a Sender that has a Sender.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

SAFE = {"GET", "HEAD"}


class Request(NamedTuple):
    """What a method asks for, not yet encoded: of one row, or of a collection."""

    method: str
    collection: str  # such as "items"
    deadline: float  # by the loop's clock: for the whole call
    id: int | None = None
    query: str = ""  # of the URL, encoded
    body: Any = None  # to be encoded as MessagePack; None: there is none
    version: int | None = None  # which a write expects
    idempotency_key: str | None = None  # every write has one

    @property
    def is_write(self) -> bool:
        """Whether it changes something."""
        return self.method not in SAFE


class Response(NamedTuple):
    """What came back; the headers' names are found in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Sender(Protocol):
    """What sends a request."""

    async def send(self, request: Request) -> Response:
        """Return the response. Raises ItemsError."""
