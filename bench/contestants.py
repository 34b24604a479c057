"""Who takes part: each one is a command line that serves /items on a port, or the database alone."""

import sys

from msgspec import Struct

from bench.workloads import BATCHES, LIST, MIXED

SERVICE = ("service", "serve", "--host", "{host}", "--port", "{port}", "--workers", "{workers}")
# Nobody calls any more when it is stopped, so nobody has to be sent away.
QUIET = {"ITEMSVC_ACCESS_LOG": "off", "ITEMSVC_DRAIN_DELAY_MS": "0"}
# What the service gives to Granian, given to everybody.
GRANIAN = (
    *("granian", "--interface", "asgi", "--host", "{host}", "--port", "{port}", "--workers", "{workers}"),
    *("--loop", "uvloop", "--http", "1", "--no-ws", "--backlog", "2048", "--backpressure", "8192"),
    *("--no-access-log", "--log-level", "warning"),
)


class Contestant(Struct, frozen=True, kw_only=True):
    """A module run as `python -m`, its arguments and its settings."""

    key: str
    title: str
    arguments: tuple[str, ...] = ()
    """Empty for the database alone, which is asked directly."""
    settings: dict[str, str] = {}
    databases: tuple[str, ...] = ("postgres", "sqlite")
    wants_token: bool = False
    """Whether its callers need a token of the service."""
    leaves_out: frozenset[str] = frozenset()
    """Workloads that it does not serve."""
    stores_items: bool = True
    """Whether its responses are the truth; if not, it only marks a bound."""

    @property
    def serves(self) -> bool:
        """Whether it speaks HTTP."""
        return bool(self.arguments)

    def line(self, host: str, port: int, workers: int) -> list[str]:
        """Build the command line that serves on this port."""
        filled = (argument.format(host=host, port=port, workers=workers) for argument in self.arguments)
        return [sys.executable, "-m", *filled]


def peer(
    key: str, title: str, module: str, *, batches: bool = False, databases: tuple[str, ...] | None = None
) -> Contestant:
    """Describe a file under bench/peers; most frameworks' guides have no word for batches."""
    return Contestant(
        key=key,
        title=title,
        arguments=(*GRANIAN, f"bench.peers.{module}:app"),
        databases=databases or ("postgres", "sqlite"),
        leaves_out=frozenset() if batches else BATCHES,
    )


OURS = "service"
WITH_TOKENS = "service-tokens"
BASELINE = "fastapi"

CONTESTANTS = [
    Contestant(
        key=OURS,
        title="this service",
        arguments=SERVICE,
        settings={"ITEMSVC_COALESCE": "on", **QUIET},
    ),
    Contestant(
        key=WITH_TOKENS,
        title="this service, callers with tokens",
        arguments=SERVICE,
        settings={"ITEMSVC_AUTH": "tokens", **QUIET},
        wants_token=True,
    ),
    Contestant(
        key="service-alone",
        title="this service, coalescing off",
        arguments=SERVICE,
        settings={"ITEMSVC_COALESCE": "off", **QUIET},
    ),
    peer("blacksheep", "BlackSheep + asyncpg by hand", "blacksheep_asyncpg", batches=True, databases=("postgres",)),
    peer("litestar", "Litestar + msgspec + SQLAlchemy", "litestar_orm"),
    peer("starlette", "Starlette + msgspec + SQLAlchemy", "starlette_orm", batches=True),
    peer("fasterapi", "FasterAPI + SQLAlchemy", "fasterapi_orm"),
    peer("fastapi", "FastAPI + SQLAlchemy", "fastapi_orm"),
    peer("responder", "Responder + SQLAlchemy", "responder_orm"),
    Contestant(
        key="ceiling",
        title="plain ASGI, no database",
        arguments=(*GRANIAN, "bench.peers.plain_asgi:app"),
        databases=("postgres",),
        stores_items=False,
    ),
    Contestant(
        key="pgbench",
        title="pgbench, no HTTP",
        databases=("postgres",),
        leaves_out=frozenset({LIST.key, MIXED.key, *BATCHES}),
        stores_items=False,
    ),
]
