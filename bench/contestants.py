"""Who takes part: each one is a command line that serves /items on a port, or the database alone."""

import sys
from collections.abc import Callable

from msgspec import Struct

from bench.builds import Built, fastify, go_pgx
from bench.client import Target
from bench.pages import Paths, Starts, by_cursors, by_values
from bench.semantics import ALONE, ASYNCPG, COALESCED, GO, GO_DEFAULT, NO_DATABASE, NO_HTTP, NODE, SQLALCHEMY, Semantics
from bench.workloads import BATCHES, LIST, MIXED, PAGES

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
    semantics: Semantics
    arguments: tuple[str, ...] = ()
    """Empty for the database alone, which is asked directly."""
    build: Callable[[], Built] | None = None
    """Makes the program that takes the arguments, if it is not Python's; raises CannotBuildError."""
    paths: Callable[[Target, Starts, int], Paths] = by_values
    """How it is asked for the pages after some rows."""
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
        program = self.build().line if self.build else (sys.executable, "-m")
        return [*program, *(_filled(argument, host, port, workers) for argument in self.arguments)]

    def environment(self, workers: int) -> dict[str, str]:
        """Return its settings."""
        return {name: _filled(value, "", 0, workers) for name, value in self.settings.items()}


def _filled(text: str, host: str, port: int, workers: int) -> str:
    return text.format(host=host, port=port, workers=workers)


def peer(key: str, title: str, module: str, *, batches: bool = False) -> Contestant:
    """Describe a file under bench/peers that uses SQLAlchemy; most frameworks' guides have no word for batches."""
    return Contestant(
        key=key,
        title=title,
        semantics=SQLALCHEMY,
        arguments=(*GRANIAN, f"bench.peers.{module}:app"),
        leaves_out=frozenset() if batches else BATCHES,
    )


def go(key: str, title: str, semantics: Semantics, settings: dict[str, str]) -> Contestant:
    """Describe the peer in Go: with pgx's small pool it reads pages faster, and with a larger one it writes faster."""
    return Contestant(
        key=key,
        title=title,
        semantics=semantics,
        arguments=("{host}:{port}",),
        build=go_pgx,
        settings={"GOMAXPROCS": "{workers}", **settings},
        databases=("postgres",),
    )


OURS = "service"
WITH_TOKENS = "service-tokens"
BASELINE = "fastapi"

CONTESTANTS = [
    Contestant(
        key=OURS,
        title="this service",
        semantics=COALESCED,
        arguments=SERVICE,
        paths=by_cursors,
        settings={"ITEMSVC_COALESCE": "on", **QUIET},
    ),
    Contestant(
        key=WITH_TOKENS,
        title="this service, callers with tokens",
        semantics=COALESCED,
        arguments=SERVICE,
        paths=by_cursors,
        settings={"ITEMSVC_AUTH": "tokens", **QUIET},
        wants_token=True,
    ),
    Contestant(
        key="service-alone",
        title="this service, coalescing off",
        semantics=ALONE,
        arguments=SERVICE,
        paths=by_cursors,
        settings={"ITEMSVC_COALESCE": "off", **QUIET},
    ),
    go("go", "Go net/http + pgx", GO, {"CONNECTIONS_PER_THREAD": "10"}),
    go("go-default", "Go net/http + pgx, default pool", GO_DEFAULT, {}),
    Contestant(
        key="fastify",
        title="Fastify + postgres.js",
        semantics=NODE,
        arguments=("{host}", "{port}", "{workers}"),
        build=fastify,
        settings={"NODE_ENV": "production"},
        databases=("postgres",),
    ),
    Contestant(
        key="blacksheep",
        title="BlackSheep + asyncpg by hand",
        semantics=ASYNCPG,
        arguments=(*GRANIAN, "bench.peers.blacksheep_asyncpg:app"),
        databases=("postgres",),
    ),
    peer("litestar", "Litestar + msgspec + SQLAlchemy", "litestar_orm"),
    peer("starlette", "Starlette + msgspec + SQLAlchemy", "starlette_orm", batches=True),
    peer("fasterapi", "FasterAPI + SQLAlchemy", "fasterapi_orm"),
    peer("fastapi", "FastAPI + SQLAlchemy", "fastapi_orm"),
    peer("responder", "Responder + SQLAlchemy", "responder_orm"),
    Contestant(
        key="ceiling",
        title="plain ASGI, no database",
        semantics=NO_DATABASE,
        arguments=(*GRANIAN, "bench.peers.plain_asgi:app"),
        databases=("postgres",),
        stores_items=False,
    ),
    Contestant(
        key="pgbench",
        title="pgbench, no HTTP",
        semantics=NO_HTTP,
        databases=("postgres",),
        leaves_out=frozenset({LIST.key, MIXED.key, *BATCHES, *PAGES}),
        stores_items=False,
    ),
]
