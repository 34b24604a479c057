"""How an answer is sent."""

from collections.abc import Sequence

from starlette.types import Scope, Send

from service.http.problems import CLOSE, Header


async def reply(scope: Scope, send: Send, status: int, headers: Sequence[Header], body: bytes) -> None:
    """Send a whole answer, with the request's id; to HEAD and with a 304 only its headers."""
    scope["status"] = status
    sent = [*headers, (b"x-request-id", scope["request_id"])]
    if scope["worker_state"].is_leaving and CLOSE not in headers:
        sent.append(CLOSE)
    if status not in {204, 304}:
        sent.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
