"""Cursors: where a page ends, opaque to clients, which send them back for the next page."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2s
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import fields

from service.http.media_types import MSGPACK
from service.http.problems import INVALID_CURSOR, ProblemError

CHECK_BYTES = 6
SHARED_BYTES_MIN = 512


class Cursors:
    """The cursors of one list, whose rows are Structs of one type; a cursor of another list or order is refused."""

    def __init__(self, name: str, kind: type[Struct], orders: Sequence[str]) -> None:
        self._name = name.encode()
        types = {field.name: field.type for field in fields(kind)}
        self._decoders: dict[str, msgspec.msgpack.Decoder[Any]] = {
            order: msgspec.msgpack.Decoder(tuple[str, types[order], types["id"]])  # type: ignore[valid-type]
            for order in orders
        }

    def write(self, order: str, last: Any, prefix: str = "") -> str:
        """Return the cursor of the page that follows the row `last` in an order such as `-price`.

        With a long `prefix`, the filter of the ordered field, only what follows it is written: both stand in one link,
        and proxies have 4 KiB for the head of a response. Such a cursor needs the same filter to be read.
        """
        value = getattr(last, order.removeprefix("-"))
        shared = _shared(prefix)
        if not shared or not value.startswith(shared):
            return self._encode(order, value, last.id)
        return self._encode(order, value[len(shared) :], last.id, shared)

    def read(self, order: str, cursor: str, prefix: str = "") -> tuple[Any, int]:
        """Return the value and the id of the last row before a cursor's page. Raises a 400."""
        decoder = self._decoders[order.removeprefix("-")]
        with suppress(ValueError, OverflowError, msgspec.DecodeError):
            content = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))[CHECK_BYTES:]
            cursor_order, value, id = decoder.decode(content)
            if cursor_order == order:  # each has one encoding
                if cursor == self._encode(order, value, id):
                    return value, id
                shared = _shared(prefix)
                if shared and cursor == self._encode(order, value, id, shared):
                    _, value, id = decoder.decode(MSGPACK.encode((order, shared + value, id)))
                    return value, id
        raise ProblemError(INVALID_CURSOR, f"The cursor `after` is not one of this list in the order {order}.")

    def _encode(self, order: str, value: Any, id: int, shared: str = "") -> str:
        """Return a cursor: a checksum, then its content. It detects damage and guesses; nothing in it is a secret."""
        payload = MSGPACK.encode((order, value, id))
        check = blake2s(self._name + shared.encode() + payload, digest_size=CHECK_BYTES, person=b"cursor").digest()
        return urlsafe_b64encode(check + payload).rstrip(b"=").decode()


def _shared(prefix: str) -> str:
    """Return what the values of a list share that a cursor leaves out: all but one character, as none may be empty."""
    return prefix[:-1] if len(prefix.encode()) > SHARED_BYTES_MIN else ""
