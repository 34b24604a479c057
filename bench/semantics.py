"""What each contestant does for a request, in words: the table beside the figures is made of it."""

from msgspec import Struct
from msgspec.structs import replace

NOTHING = "–"


class Semantics(Struct, frozen=True, kw_only=True):
    """A row of that table; `{workers}` stands for the number that the contest gives everybody."""

    server: str
    """The HTTP server, and its processes or threads."""
    connections: str
    """How many to PostgreSQL at most."""
    statements: str
    """Who writes them, and whether they are prepared."""
    transaction: str = "autocommit"
    durability: str = "on the disk when acknowledged"
    columns: str = "all 8"
    """What is read of the table, and returned."""


SQLALCHEMY = Semantics(
    server="Granian, {workers} processes",
    connections="15 a process: 5 kept, 10 more (SQLAlchemy's default)",
    statements="the ORM's, prepared by asyncpg",
    transaction="BEGIN, statements, COMMIT or ROLLBACK",
)
ASYNCPG = replace(
    SQLALCHEMY,
    connections="10 a process (asyncpg's default)",
    statements="by hand, prepared by asyncpg",
    transaction="autocommit",
)
ALONE = replace(
    SQLALCHEMY,
    connections="10 a process: 6 for batches, 4 in a pool",
    statements="SQLAlchemy Core's, prepared by asyncpg",
    transaction="autocommit; a write's statement also writes a commit record",
)
COALESCED = replace(ALONE, statements=f"{ALONE.statements}; one for all requests that wait")
GO = Semantics(
    server="net/http, {workers} threads",
    connections="10 a thread",
    statements="by hand, prepared by pgx",
)
GO_DEFAULT = replace(GO, connections="as many as cores, and 4 at least (pgx's default)")
NODE = Semantics(
    server="node's cluster, {workers} processes",
    connections="10 a process (postgres.js's default)",
    statements="by hand, prepared by postgres.js",
    columns="all 8, timestamps with milliseconds",
)
NO_DATABASE = Semantics(
    server=SQLALCHEMY.server,
    connections="none",
    statements=NOTHING,
    transaction=NOTHING,
    durability="nothing is stored",
    columns="8 constants",
)
NO_HTTP = Semantics(server="none", connections="one for each client", statements="by hand, prepared")
