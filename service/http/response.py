"""A response: what a handler returns for it, its status, headers and body, and how it is sent."""

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import Struct
from starlette.types import Scope, Send

T = TypeVar("T")

Header = tuple[bytes, bytes]

# Without Cache-Control a cache may guess how long a response is fresh, also a 404 or 405 (RFC 9111, section 4.2.2).
# With no-cache it may store the response, but asks the service before each use, which an ETag makes a 304. This is also
# for the OpenAPI document, as a new release must not be served with the old one's, and for responses to writes: no
# cache uses those without a lifetime, which this does not give (RFC 9110, section 9.3; RFC 5789, section 2). So it does
# no harm that a replayed response lacks the header if it was stored before the service sent one.
NO_CACHE: Header = (b"cache-control", b"no-cache")
# For a response that says nothing of the next request's: a probe's, and every problem.
NO_STORE: Header = (b"cache-control", b"no-store")
# In the place of Granian's own name, which it would add.
SERVER: Header = (b"server", b"items-service")
# A browser that is led to a response must not take what somebody sent for another media type than Content-Type has.
NO_SNIFFING: Header = (b"x-content-type-options", b"nosniff")
# Where the rest of a body would stand before the next request.
CLOSE: Header = (b"connection", b"close")


class Response(Struct, array_like=True, frozen=True):  # made in a third of the time of a NamedTuple
    """A response as it is sent, or stored under an idempotency key; the headers of each single request come later."""

    status: int
    headers: Sequence[Header]
    body: bytes = b""


class Result(NamedTuple, Generic[T]):
    """A handler's value, and what its response needs beside it."""

    value: T
    headers: Sequence[Header] = ()
    encoded: dict[Any, Response] | None = None  # by media type: a cache, if requests share the value and the headers
    body_tag: bool = False  # the entity tag has a digest of the body: the version alone does not tell all changes


async def send_response(scope: Scope, send: Send, response: Response) -> None:
    """Send a response with the request's id; in response to HEAD, and as a 204 or 304, without a body.

    A worker that drains closes the connection, so that the client opens its next one to another worker.
    """
    status, body = response.status, response.body
    scope["status"] = status
    sent = [*response.headers, SERVER, NO_SNIFFING, (b"x-request-id", scope["request_id"])]
    if "rate_limit" in scope:  # of the caller, so it is no part of what is stored or shared
        sent += scope["rate_limit"]
    if scope["worker_state"].is_draining and CLOSE not in response.headers:
        sent.append(CLOSE)
    if status not in {204, 304}:
        sent.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
