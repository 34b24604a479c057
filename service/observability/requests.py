"""Metrics of requests: how many of each operation had which status, how long they took, and why some were refused."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping

from starlette.types import Scope

from db.errors import OutcomeUnknown, Overloaded, TimedOut
from db.limit import Limit
from service.observability.metrics import NANOSECONDS, Family, Kind, Metrics

# A path that nobody serves, a method that a path has not, and requests that are refused before their path is looked at.
OTHER = "other"
# The statuses of problems and of operations. A request whose client has gone before its response began has none.
STATUSES = (200, 201, 204, 304, *(400, 401, 403, 404, 405, 406, 408, 409, 412, 413, 415, 422, 429, 431), 500, 503, 504)
NONE = "none"
TOO_MANY_REQUESTS = 429
# A rate misses the first of a series that was not shown before.
ALWAYS = frozenset({"500", "503", "504"})
LATENCIES_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 10)
LATENCIES = tuple(int(seconds * NANOSECONDS) for seconds in LATENCIES_S)

REQUESTS = "requests_total", "Requests, by operation and status; other and none stand for what there is no name for."
DURATIONS = "request_duration_seconds", "From a request's head until the end of its response."
SHED = "requests_shed_total", "Requests that were refused before any work, by the limit that was reached."
DEADLINES = "deadlines_exceeded_total", "Requests that were given up because their time was over."
REPLAYS = "replays_total", "Responses that were stored under an idempotency key, and sent again."
UNKNOWN = "outcomes_unknown_total", "Writes whose client was told that their outcome is unknown."

Routed = tuple[str, object, Mapping[str, object]]  # a path, its resource, and the operations of this by method


class RequestMetrics:
    """Counts the requests of a worker: paths and methods that are not those of a route are one."""

    def __init__(self, metrics: Metrics, routes: Iterable[Routed]) -> None:
        self._cells = metrics.cells
        labels = ("route", "method")
        durations = metrics.add(Family(*DURATIONS, Kind.HISTOGRAM, labels, NANOSECONDS, LATENCIES))
        requests = metrics.add(Family(*REQUESTS, Kind.COUNTER, (*labels, "status"), always=ALWAYS))
        self._sum = len(LATENCIES) + 1  # from an operation's first cell, as the following
        self._statuses = {status: self._sum + 1 + place for place, status in enumerate(STATUSES)}
        self._statuses[0] = self._sum + 1 + len(STATUSES)
        self._other_status = self._statuses[0] + 1
        # By what the scope has as its operation: the resource, if this has none for the method; None, if there is none.
        self._first: dict[object, int] = {}
        for path, resource, operations in [*routes, (OTHER, None, {})]:
            for method, operation in {**operations, OTHER: resource}.items():
                self._first[operation] = metrics.first_cell(durations, path, method)
                for status in (*STATUSES, NONE, OTHER):
                    metrics.first_cell(requests, path, method, str(status))
        shed = metrics.add(Family(*SHED, Kind.COUNTER, ("reason",)))
        self._shed = {limit: metrics.counter(shed, limit) for limit in Limit}
        self._deadlines = metrics.counter(metrics.add(Family(*DEADLINES, Kind.COUNTER)))
        self._unknown = metrics.counter(metrics.add(Family(*UNKNOWN, Kind.COUNTER)))
        self.replays = metrics.counter(metrics.add(Family(*REPLAYS, Kind.COUNTER)))

    def observe(self, scope: Scope, elapsed_ns: int) -> None:
        """Count a request that is over."""
        # Memory that no request has touched lately is what counting costs: one lookup, and no method's name is hashed.
        first, cells = self._first[scope.get("operation")], self._cells
        cells[first + bisect_left(LATENCIES, elapsed_ns)] += 1
        cells[first + self._sum] += elapsed_ns
        cells[first + self._statuses.get(scope["status"], self._other_status)] += 1

    def count_error(self, error: Exception, status: int) -> None:
        """Count an error that requests have, beside their status."""
        if isinstance(error, Overloaded):
            self.count_shed(error.limit)
        elif status == TOO_MANY_REQUESTS:
            self.count_shed(Limit.CALLER)
        elif isinstance(error, TimedOut):
            self._deadlines.add()
        elif isinstance(error, OutcomeUnknown):
            self._unknown.add()

    def count_shed(self, limit: Limit) -> None:
        """Count a request that was refused as a limit is reached."""
        self._shed[limit].add()
