#!/usr/bin/env bash
# Granian 2.8.7, uvicorn 0.54.0, hypercorn 0.18.0: a client that sends a whole POST with Connection: close, and then
# closes its side for writing (shutdown(SHUT_WR), as nc -N does), has no response from Granian, nor from uvicorn: the
# connection is closed without a byte, though the application gets the request and runs to its end, writes included.
# Hypercorn responds. An option for it is in neither's --help; hyper, beneath Granian, has one: half_close, off by
# default.
#
# Guessed before: all three respond, as by RFC 9112 such a client may still be interested in the response.
#
# Seen: granian, uvicorn: with the write side open 201, half-closed 0 bytes; the application has run twice
#       hypercorn: 201 and 201; the application has run twice
#
# Source: RFC 9112, 9.6 (a half-close does not imply that the client is no longer interested in a response); docs.rs,
# hyper::server::conn::http1::Builder::half_close; Kludex/uvicorn issue 1264 "Handle half closed per HTTPWG
# recommendation" (closed) and uvicorn/protocols/http/h11_impl.py, eof_received, which lets asyncio close the transport.

set -euo pipefail
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check --no-deps \
    granian==2.8.7 uvicorn==0.54.0 hypercorn==0.18.0 \
    click==8.5.1 h11==0.16.0 h2==4.3.0 hpack==4.1.0 hyperframe==6.1.0 priority==2.0.0 wsproto==1.2.0
cd "$work"

cat >application.py <<'EOF'
import asyncio


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    while (await receive()).get("more_body"):
        pass
    await asyncio.sleep(0.5)
    with open("runs", "a") as runs:
        runs.write("x")
    await send({"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})
EOF

"$work/venv/bin/python" - "$work" <<'EOF'
import socket
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "granian": ["--interface", "asgi", "--no-ws", "--port", "PORT", "application:application"],
    "uvicorn": ["--loop", "asyncio", "--http", "h11", "--port", "PORT", "application:application"],
    "hypercorn": ["--bind", "127.0.0.1:PORT", "application:application"],
}
REQUEST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
RUNS = Path("runs")


def see(what, seen, expected):
    print(f"{what}: {seen}")
    if seen != expected:
        sys.exit(f"CHANGED: expected {expected}")


def post(port, *, half_close):
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(10)
        client.sendall(REQUEST)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        answer = b""
        while received := client.recv(4096):
            answer += received
    return answer[9:12].decode() or "nothing"


def ready(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


for name, arguments in COMMANDS.items():
    RUNS.write_text("")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [Path(sys.argv[1], "venv/bin", name), *(text.replace("PORT", str(port)) for text in arguments)]
    with open(f"{name}.log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while not ready(port) and time.monotonic() < deadline:
            time.sleep(0.1)
        answers = post(port, half_close=False), post(port, half_close=True)
        expected = "201" if name == "hypercorn" else "nothing"
        see(f"{name}, open and half-closed", answers, ("201", expected))
        time.sleep(1)
        see("runs of the application", len(RUNS.read_text()), 2)
    finally:
        server.terminate()
        server.wait(20)
EOF
