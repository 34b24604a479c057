"""What schemathesis cannot read in the document: MessagePack, and the rules that JSON Schema has no words for."""

import math
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import msgspec
import schemathesis
from schemathesis import Case, HookContext, Response

from service.http.listing import Listing
from service.http.media_types import MSGPACK
from service.http.operation import Resource
from service.resources import tokens
from service.resources.items import DOUBLE_MAX
from service.routes import ROUTES
from tests.support.values import Fields

LISTS = {
    route.path: route.endpoint.operations["GET"]
    for route in ROUTES
    if isinstance(route.endpoint, Resource) and "GET" in route.endpoint.operations
}
UNKNOWN_HEADER = "x-schemathesis-unknown-property"
INT64_MIN, UINT64_MAX = -(2**63), 2**64 - 1


@schemathesis.serializer(MSGPACK.content_type)
def to_msgpack(_context: object, value: Any) -> bytes:
    """Write a body; an integer that MessagePack has no room for as the number it is."""
    return msgspec.msgpack.encode(narrowed(value))


@schemathesis.deserializer(MSGPACK.content_type)
def from_msgpack(_context: object, response: Response) -> Any:
    """Decode a response, its timestamps as the texts that they are in JSON, which the schema describes."""
    return msgspec.json.decode(msgspec.json.encode(msgspec.msgpack.decode(response.content)))


@schemathesis.hook
def filter_case(_context: HookContext, case: Case[Any]) -> bool:
    """Leave out requests that are wrong only in a header that no document has: HTTP lets those pass."""
    return UNKNOWN_HEADER not in case.headers


@schemathesis.hook
def before_call(_context: HookContext, case: Case[Any], _kwargs: dict[str, Any]) -> None:
    """Accept the media type of the body, and keep the rules in requests that are meant to be valid."""
    if case.media_type == MSGPACK.content_type:
        case.headers["Accept"] = MSGPACK.content_type
    if case.meta is not None and case.meta.generation.mode.is_positive:
        keep_header_rules(case)
        keep_query_rules(case)
        if case.media_type is not None:
            keep_body_rules(case)


def keep_header_rules(case: Case[Any]) -> None:
    """Make each key unique, and each time limit long enough."""
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = str(uuid4())
    if "X-Request-Timeout" in case.headers:
        case.headers["X-Request-Timeout"] = "9.5"


def keep_query_rules(case: Case[Any]) -> None:
    """Leave `ids` alone, put in a cursor of the order, and remove ids of unknown users."""
    case.query.pop("reassign_to", None)
    if "ids" in case.query:
        case.query = {"ids": case.query["ids"]}
    elif "after" in case.query:
        case.query["after"] = cursor(case.path, case.query.get("order", "id"))


def cursor(path: str, order: str) -> str:
    """Return a cursor that the list at a path might have given out in an order."""
    collection = getattr(LISTS[path].handler, "__self__", None)  # tokens have none
    listing: Listing[Any] = collection.listing if collection else tokens.LISTING
    rows = Fields(LISTS[path].result)
    last = SimpleNamespace(**{name: msgspec.convert(rows.value(name, 7), rows.kinds[name]) for name in rows.kinds})
    return listing.cursors.write(order, last)


def keep_body_rules(case: Case[Any]) -> None:
    """Remove ids of unknown users, and times that may be over.

    Of a batch, remove passwords, which cost time, and patches of an id that was named before.
    Integers have no fraction: to JSON Schema, 7.0 is one.
    """
    body: Any = case.body
    for member in body if isinstance(body, list) else [body]:
        member.pop("owner_id", None)
        member.pop("expires_at", None)
    if isinstance(body, list):
        for member in body:
            member.pop("password", None)
            member |= {name: int(member[name]) for name in ("id", "version") if name in member}
        case.body = list({member.get("id", place): member for place, member in enumerate(body)}.values())


def narrowed(value: Any) -> Any:
    """Make floats of integers that are too large."""
    if isinstance(value, dict):
        return {name: narrowed(part) for name, part in value.items()}
    if isinstance(value, list):
        return [narrowed(part) for part in value]
    if isinstance(value, int) and not INT64_MIN <= value <= UINT64_MAX:
        return float(value) if abs(value) <= DOUBLE_MAX else math.inf
    return value
