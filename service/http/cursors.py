"""Cursors: where a page ends, in a form that callers hand back unread."""

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
    """Return the cursor after an item in an order such as `-price`."""
    return _written(order, getattr(last, order.removeprefix("-")), last.id)


def read(order: str, cursor: str) -> tuple[Any, int]:
    """Return the ordered value and the id that a cursor stands after. Raises a 400."""
    with suppress(ValueError, OverflowError, msgspec.DecodeError):
        content = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))[CHECK_BYTES:]
        made_for, value, id = DECODERS[order.removeprefix("-")].decode(content)
        if made_for == order and cursor == _written(order, value, id):  # there is one way to write each
            return value, id
    raise ProblemError(INVALID_CURSOR, f"The cursor `after` was not given out for the order {order}.")


def _written(order: str, value: Any, id: int) -> str:
    """Put a checksum before a cursor's content. It finds damage, and guesses; nothing here would need a secret."""
    payload = msgspec.msgpack.encode((order, value, id))
    check = blake2s(payload, digest_size=CHECK_BYTES, person=b"cursor").digest()
    return urlsafe_b64encode(check + payload).rstrip(b"=").decode()
