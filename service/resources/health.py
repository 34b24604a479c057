"""Probes: whether the process is alive, and whether it can serve."""

import asyncio

from db.errors import DatabaseError, TooManyConnections, UnexpectedPooler
from service.context import Context
from service.http.problems import NOT_READY, ProblemError
from service.schemas import Health

READINESS_TIMEOUT_S = 2


async def live(context: Context) -> Health:  # noqa: ARG001 - it needs nothing
    """Return whether the process is alive; the database is not asked.

    An orchestrator restarts a process for which this fails. The query is disregarded, as is an `Accept` that cannot be
    met.
    """
    return Health("alive")


async def metrics(context: Context, accept: str) -> tuple[bytes, str]:
    """Return the metrics of all workers."""
    assert context.metrics is not None  # noqa: S101 - narrows the type: without metrics there is no such route
    return context.metrics.exposition.text(accept)


async def ready(context: Context) -> Health:
    """Return whether requests can be served: the database responds, and its schema and tables can be used.

    A load balancer sends requests to a service for which this succeeds. A 503 says what is missing, or that the service
    is stopping.
    """
    if context.worker_state.is_shutting_down:
        raise ProblemError(NOT_READY, "The service is stopping.")
    try:
        async with asyncio.timeout(READINESS_TIMEOUT_S):
            schema = await context.schema()
            await context.check_connections()
    except (TooManyConnections, UnexpectedPooler) as error:
        raise ProblemError(NOT_READY, f"The database cannot be used: {error}.") from None
    except DatabaseError:  # its text may name hosts and roles
        raise ProblemError(NOT_READY, "The database cannot be used; the log says why.") from None
    except TimeoutError:
        raise ProblemError(NOT_READY, "The database does not respond.") from None
    if schema.obstacle is not None:
        raise ProblemError(NOT_READY, f"{schema.obstacle[:1].upper()}{schema.obstacle[1:]}.")
    return Health("ready")
