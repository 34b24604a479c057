"""How many connections to PostgreSQL the workers of an instance hold, and whether the server allows them."""

from msgspec.structs import replace

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


def within_budget(settings: Settings, connections_max: int | None) -> Settings:
    """Return the settings with as many workers as there can be connections for, if that is known.

    Only workers that were not asked for by number are left out. Raise TooFewConnections if there are too many.
    """
    each = settings.batch_connections + settings.pool_size
    if connections_max is None or settings.workers * each <= connections_max:
        return settings
    if settings.workers_are_auto and each <= connections_max:
        return replace(settings, workers=connections_max // each)
    raise TooFewConnections(
        f"{connection_budget(settings)}; the server allows {connections_max}, by its max_connections less those that it"
        f" reserves, or by a CONNECTION LIMIT of the role or the database: {REMEDY}"
    )
