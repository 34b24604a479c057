"""How many connections to PostgreSQL the workers of an instance hold, and whether the server allows them."""

from service.settings import Settings

REMEDY = (
    "fewer of ITEMSVC_WORKERS, ITEMSVC_BATCH_CONNECTIONS or ITEMSVC_POOL_SIZE, a larger max_connections, or PgBouncer"
    " with ITEMSVC_PGBOUNCER=on"
)


class TooFewConnections(Exception):
    """PostgreSQL allows fewer connections than the workers of one instance hold."""


def connection_budget(settings: Settings) -> str:
    """Return how many connections to PostgreSQL the workers may hold together; one at a time is replaced."""
    workers, batches, transactions = settings.workers, settings.batch_connections, settings.pool_size
    return (
        f"connections to {'PgBouncer' if settings.pgbouncer else 'PostgreSQL'}: "
        f"{workers} worker{'s' if workers > 1 else ''} x ({batches} for batches + {transactions} for transactions) = "
        f"{workers * (batches + transactions)}, and {batches + transactions} more while a worker is replaced"
    )


def check_budget(settings: Settings, connections_max: int | None) -> None:
    """Raise TooFewConnections if all workers hold more than there can be, if that is known."""
    needed = settings.workers * (settings.batch_connections + settings.pool_size)
    if connections_max is not None and needed > connections_max:
        raise TooFewConnections(
            f"{connection_budget(settings)}; the server allows {connections_max}, which is max_connections less those"
            f" that it reserves: {REMEDY}"
        )
