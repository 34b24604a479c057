"""Reading the bodies of requests, within a bound of bytes and of time."""

import asyncio
from time import monotonic

from starlette.types import Receive

from service.http.headers import Headers
from service.http.media_types import bounded, shown
from service.http.problems import BODY_TOO_LARGE, MALFORMED_BODY, REQUEST_TIMEOUT, UNSUPPORTED_CODING, ProblemError
from service.http.response import CLOSE

# Apache's SECONDS_TO_LINGER.
DISCARD_S = 2


class BodyReader:
    """Reads bodies, each before its deadline.

    One timer watches all deadlines: one for each body, or asyncio.timeout, costs a request five to ten times as much.
    """

    def __init__(self, *, bytes_max: int, timeout_ms: int, bytes_per_s_min: int) -> None:
        self._bytes_max = bytes_max
        self._timeout_s = timeout_ms / 1000
        self._bytes_per_s_min = bytes_per_s_min
        self._deadlines: dict[asyncio.Task[object], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, headers: Headers, receive: Receive) -> bytes:
        """Return a body, read to its end or to its Content-Length.

        Raises a 415 if the body is encoded, a 413 as soon as it is too large, a 408 if it is too slow, and a 400 if it
        breaks off.
        """
        if b"content-encoding" in headers:
            refuse_coding(headers[b"content-encoding"])
        length = content_length(headers)
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
                if message["type"] == "http.disconnect":  # even if what has come could be decoded
                    raise ProblemError(MALFORMED_BODY, "It was not sent to its end.", headers=[CLOSE])
                chunk = message.get("body", b"")
                chunks.append(chunk)
                size += len(chunk)
                if size > self._bytes_max:
                    raise self._too_large()
                if not message.get("more_body", False):
                    break
                self._deadlines[task] += len(chunk) / self._bytes_per_s_min
        except asyncio.CancelledError:
            if task in self._deadlines or task.uncancel():  # the cancellation is not this reader's own
                raise
            raise ProblemError(REQUEST_TIMEOUT, "It was sent too slowly.", headers=[CLOSE]) from None
        finally:
            self._deadlines.pop(task, None)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self) -> ProblemError:
        return ProblemError(BODY_TOO_LARGE, f"It may have {self._bytes_max} bytes at most.", headers=[CLOSE])

    def _watch(self, delay_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._cancel_late_readers)

    def _cancel_late_readers(self) -> None:
        """Cancel the tasks that read past their deadline, and run again when the next deadline may be over."""
        now = monotonic()
        for task in [task for task, deadline in self._deadlines.items() if deadline <= now]:
            del self._deadlines[task]
            task.cancel()
        self._timer = None
        if self._deadlines:  # a body that begins until then has at least the whole time
            self._watch(min(self._timeout_s, min(self._deadlines.values()) - now))


def refuse_coding(content_encoding: bytes) -> None:
    """Raise a 415 for a body that is encoded, such as compressed, by a Content-Encoding (RFC 9110, section 15.5.16)."""
    codings = {part.strip() for part in bounded(content_encoding, "Content-Encoding").lower().split(b",")}
    if codings - {b"", b"identity"}:
        text = f"The body must come without Content-Encoding, not as {shown(content_encoding)}."
        raise ProblemError(UNSUPPORTED_CODING, text, headers=[(b"accept-encoding", b"identity")])


def content_length(headers: Headers) -> int | None:
    """Return the Content-Length in bytes; None without one, or where it is no number."""
    text = headers.get(b"content-length", b"")
    return int(text) if text.isdigit() and len(text) < 20 else None  # noqa: PLR2004 - fits 64 bits


async def discard_body(receive: Receive) -> None:
    """Read the rest of a body for at most DISCARD_S, and drop it: a lingering close.

    A connection that is closed while its client sends is reset, and the response may be lost (RFC 9112, section 9.6).
    """
    try:
        async with asyncio.timeout(DISCARD_S):
            while (await receive()).get("more_body", False):
                pass
    except TimeoutError:
        pass
