"""Cursors: where a page ends, in a form that callers hand back unread."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from hashlib import blake2s
from typing import Any

import msgspec

from service.problems import INVALID_CURSOR, ProblemError
from service.schemas import ItemId, ItemResponse, Name, Price

CHECK_BYTES = 6
DECODERS: dict[str, msgspec.msgpack.Decoder[Any]] = {
    "id": msgspec.msgpack.Decoder(tuple[str, ItemId, ItemId]),
    "name": msgspec.msgpack.Decoder(tuple[str, Name, ItemId]),
    "price": msgspec.msgpack.Decoder(tuple[str, Price, ItemId]),
    "created_at": msgspec.msgpack.Decoder(tuple[str, datetime, ItemId]),
}


def write(order: str, last: ItemResponse) -> str:
    """Give the cursor after an item in an order such as `-price`."""
    payload = msgspec.msgpack.encode((order, getattr(last, order.removeprefix("-")), last.id))
    return urlsafe_b64encode(_check(payload) + payload).rstrip(b"=").decode()


def read(order: str, cursor: str) -> tuple[Any, int]:
    """Give the ordered value and the id that a cursor stands after. Raises a 400."""
    wrong = ProblemError(INVALID_CURSOR, f"The cursor `after` was not given out for the order {order}.")
    try:
        raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        check, payload = raw[:CHECK_BYTES], raw[CHECK_BYTES:]
        made_for, value, id = DECODERS[order.removeprefix("-")].decode(payload)
    except (ValueError, msgspec.DecodeError):
        raise wrong from None
    if made_for != order or check != _check(payload):
        raise wrong
    return value, id


def _check(payload: bytes) -> bytes:
    """Give a checksum. It finds damage, and guesses; a cursor holds nothing that would need a secret."""
    return blake2s(payload, digest_size=CHECK_BYTES, person=b"cursor").digest()
