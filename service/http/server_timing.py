"""Server-Timing: what a response says of the time that it took (https://www.w3.org/TR/server-timing/)."""

from time import perf_counter_ns

from starlette.types import Message, Send

NS_PER_MS = 10**6


def timed(send: Send, started: int) -> Send:
    """Return a `send` that adds to a response the milliseconds since a request began, until its head is sent."""

    async def send_timed(message: Message) -> None:
        if message["type"] == "http.response.start":
            total_ms = (perf_counter_ns() - started) / NS_PER_MS
            message["headers"] = [*message["headers"], (b"server-timing", b"total;dur=%.3f" % total_ms)]
        await send(message)

    return send_timed
