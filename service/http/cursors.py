"""Cursors: where a page ends, opaque to clients, which send them back for the next page."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from hashlib import blake2s
from typing import Any

import msgspec

from service.http.problems import INVALID_CURSOR, ProblemError
from service.schemas import ItemId, ItemResponse, Name, Price, Timestamp

CHECK_BYTES = 6
DECODERS: dict[str, msgspec.msgpack.Decoder[Any]] = {
    "id": msgspec.msgpack.Decoder(tuple[str, ItemId, ItemId]),
    "name": msgspec.msgpack.Decoder(tuple[str, Name, ItemId]),
    "price": msgspec.msgpack.Decoder(tuple[str, Price, ItemId]),
    "created_at": msgspec.msgpack.Decoder(tuple[str, Timestamp, ItemId]),
}


def write(order: str, last: ItemResponse) -> str:
    """Return the cursor of the page that follows `last` in an order such as `-price`."""
    return _encode(order, getattr(last, order.removeprefix("-")), last.id)


def read(order: str, cursor: str) -> tuple[Any, int]:
    """Return the value and the id of the last item before a cursor's page. Raises a 400."""
    with suppress(ValueError, OverflowError, msgspec.DecodeError):
        content = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))[CHECK_BYTES:]
        cursor_order, value, id = DECODERS[order.removeprefix("-")].decode(content)
        if cursor_order == order and cursor == _encode(order, value, id):  # each has one encoding
            return value, id
    raise ProblemError(INVALID_CURSOR, f"The cursor `after` is not one of the order {order}.")


def _encode(order: str, value: Any, id: int) -> str:
    """Return a cursor: a checksum, then its content. It detects damage and guesses; nothing in it is a secret."""
    payload = msgspec.msgpack.encode((order, value, id))
    check = blake2s(payload, digest_size=CHECK_BYTES, person=b"cursor").digest()
    return urlsafe_b64encode(check + payload).rstrip(b"=").decode()
