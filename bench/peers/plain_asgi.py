"""A plain ASGI callable without a database: the ceiling of the server, the load generator and the machine.

Nothing is stored: every item is the same one, whatever is asked or sent.
"""

from starlette.types import Message, Receive, Scope, Send

ITEM = (
    b'{"id":1,"name":"item-1","price":0.25,"in_stock":true,"owner_id":null,"version":1,'
    b'"created_at":"2026-11-21T12:00:00.000000Z","updated_at":"2026-11-21T12:00:00.000000Z"}'
)
BATCH = b"[" + b",".join([ITEM] * 100) + b"]"


def started(status: int, body: bytes) -> Message:
    """Make the message that begins a response."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    return {"type": "http.response.start", "status": status, "headers": headers}


RESPONSES = {
    (method, several): (started(status, body), {"type": "http.response.body", "body": body})
    for method, status in (("GET", 200), ("PUT", 200), ("POST", 201))
    for several, body in ((False, ITEM), (True, BATCH))
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Read what is sent, and respond with constants."""
    if scope["type"] != "http":
        return
    method = scope["method"]
    several = method == "GET" and scope["path"] == "/items"
    if method != "GET":
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        several = body.startswith(b"[")
    start, content = RESPONSES[method, several]
    await send(start)
    await send(content)
