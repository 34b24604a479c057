"""How the bodies of requests are read: within a bound of bytes, and of time."""

import asyncio
from time import monotonic

from starlette.types import Message, Receive

from service.http.headers import Headers
from service.http.problems import BODY_TOO_LARGE, CLOSE, MALFORMED_BODY, REQUEST_TIMEOUT, ProblemError

# Apache's SECONDS_TO_LINGER.
DISCARD_S = 2


class BodyReader:
    """The bodies that are being read.

    One timer watches all their readers: one for each, or asyncio.timeout, costs a request five to ten times as much.
    """

    def __init__(self, *, bytes_max: int, timeout_ms: int, bytes_per_s_min: int) -> None:
        self._bytes_max = bytes_max
        self._timeout_s = timeout_ms / 1000
        self._bytes_per_s_min = bytes_per_s_min
        self._deadlines: dict[asyncio.Task[object], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, headers: Headers, receive: Receive) -> bytes:
        """Read a body to its end, or to the length that was announced.

        Raises a 413 as soon as it is too large, a 408 if it is too slow, and a 400 if it breaks off.
        """
        length = announced(headers)
        if length is not None and length > self._bytes_max:
            raise self._too_large()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that awaits has one
        self._deadlines[task] = monotonic() + self._timeout_s
        if self._timer is None:
            self._watch(self._timeout_s)
        chunks, size = [], 0
        try:
            while length is None or size < length:
                message = await receive()
                chunk = content(message)
                chunks.append(chunk)
                size += len(chunk)
                if size > self._bytes_max:
                    raise self._too_large()
                if not message.get("more_body", False):
                    break
                self._deadlines[task] += len(chunk) / self._bytes_per_s_min
        except asyncio.CancelledError:
            if task in self._deadlines or task.uncancel():  # somebody else wants it to end
                raise
            raise ProblemError(REQUEST_TIMEOUT, "It was sent too slowly.", headers=[CLOSE]) from None
        finally:
            self._deadlines.pop(task, None)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self) -> ProblemError:
        return ProblemError(BODY_TOO_LARGE, f"It may have {self._bytes_max} bytes at most.", headers=[CLOSE])

    def _watch(self, delay_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._stop_the_late)

    def _stop_the_late(self) -> None:
        """Cancel the readers whose time is over, and come back when the next one's may be."""
        now = monotonic()
        for task in [task for task, deadline in self._deadlines.items() if deadline <= now]:
            del self._deadlines[task]
            task.cancel()
        self._timer = None
        if self._deadlines:  # whoever comes until then has at least the whole time
            self._watch(min(self._timeout_s, min(self._deadlines.values()) - now))


def announced(headers: Headers) -> int | None:
    """Return the length that a body is said to have."""
    text = headers.get(b"content-length", b"")
    return int(text) if text.isdigit() and len(text) < 20 else None  # noqa: PLR2004 - fits 64 bits


def content(message: Message) -> bytes:
    """Return a part of a body. Raises a 400: what breaks off is no body, also where what came could be decoded."""
    if message["type"] == "http.disconnect":
        raise ProblemError(MALFORMED_BODY, "It was not sent to its end.", headers=[CLOSE])
    return bytes(message.get("body", b""))


async def discard_body(receive: Receive) -> None:
    """Let the rest of a body go by, for a while.

    A connection that is closed while its client sends is reset, and the answer may be lost (RFC 9112, section 9.6).
    """
    try:
        async with asyncio.timeout(DISCARD_S):
            while (await receive()).get("more_body", False):
                pass
    except TimeoutError:
        pass
