"""Server-Timing: what a response says of the time that it took (https://www.w3.org/TR/server-timing/)."""

from time import perf_counter_ns

from starlette.types import Message, Scope, Send

from service.observability.request_batches import BATCHES, RequestBatch

NS_PER_S = 10**9


def timed(scope: Scope, send: Send, started: int) -> Send:
    """Return a `send` that adds to a response the milliseconds since a request began, until its head is sent.

    If batches served it, also those in which it waited for them, and those that they took.
    """
    batches: list[RequestBatch] = scope.setdefault(BATCHES, [])

    async def send_timed(message: Message) -> None:
        if message["type"] == "http.response.start":
            times = {b"total": (perf_counter_ns() - started) / NS_PER_S}
            if batches:
                times[b"wait"] = sum(batch.run.started - batch.since for batch in batches)
                times[b"statement"] = sum(batch.run.ended - batch.run.started for batch in batches)
            value = b", ".join(b"%s;dur=%.3f" % (name, s * 1000) for name, s in times.items())
            message["headers"] = [*message["headers"], (b"server-timing", value)]
        await send(message)

    return send_timed
