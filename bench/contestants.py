"""Who takes part: each one is a command line that serves /items on a port."""

import sys

from msgspec import Struct

SERVICE = ("service", "serve", "--host", "{host}", "--port", "{port}", "--workers", "{workers}")
# What the service gives to Granian, given to everybody.
GRANIAN = (
    *("granian", "--interface", "asgi", "--host", "{host}", "--port", "{port}", "--workers", "{workers}"),
    *("--loop", "uvloop", "--http", "1", "--no-ws", "--backlog", "2048", "--backpressure", "8192"),
    *("--no-access-log", "--log-level", "warning"),
)


class Contestant(Struct, frozen=True):
    """A module run as `python -m`, its arguments and its settings."""

    key: str
    title: str
    arguments: tuple[str, ...]
    settings: dict[str, str] = {}

    def line(self, host: str, port: int, workers: int) -> list[str]:
        """Build the command line that serves on this port."""
        filled = (argument.format(host=host, port=port, workers=workers) for argument in self.arguments)
        return [sys.executable, "-m", *filled]


BASELINE = "fastapi"

CONTESTANTS = [
    Contestant(
        "service",
        "this service",
        SERVICE,
        {"ITEMSVC_COALESCE": "true", "ITEMSVC_ACCESS_LOG": "false"},
    ),
    Contestant(
        "service-alone",
        "this service, coalescing off",
        SERVICE,
        {"ITEMSVC_COALESCE": "false", "ITEMSVC_ACCESS_LOG": "false"},
    ),
    Contestant(
        "fastapi",
        "FastAPI + SQLAlchemy session per request",
        (*GRANIAN, "bench.peers.fastapi_orm:app"),
    ),
]
