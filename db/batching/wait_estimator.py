"""An estimate of how long a job will be queued, from how long recent jobs took."""


class WaitEstimator:
    """A moving average of the duration of jobs, and the start times of those in flight on a number of connections."""

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self.started: list[float] = []  # of the jobs in flight, the oldest first
        self._duration_s = 0.0  # the moving average
        # Others may use the connections as well: then jobs that wait start less often than the durations say.
        self._interval_s = 0.0  # the moving average of the time between two starts, if jobs waited in between
        self.latest_start = 0.0
        self._others_waited = False

    def start(self, now: float, *, others_wait: bool = False) -> float:
        """Record that a job starts at `now`, in seconds of time.monotonic(), and return `now`."""
        if self._others_waited:
            self._interval_s += (now - self.latest_start - self._interval_s) / 8
        self.latest_start, self._others_waited = now, others_wait
        self.started.append(now)
        return now

    def finish(self, started: float) -> None:
        """Record that the job that started at this time is no longer in flight."""
        self.started.remove(started)

    def observe(self, duration_s: float) -> None:
        """Add the duration of a job to the moving average, with a weight of 1/8."""
        self._duration_s += (duration_s - self._duration_s) / 8

    def wait_s(self, ahead: int, now: float) -> float:
        """Return the seconds until a job with `ahead` queued jobs before it can start, one on each connection."""
        rounds, place = divmod(ahead, self._connections)
        place -= self._connections - len(self.started)  # connections that are free come first
        until_free_s = 0.0 if place < 0 else max(0.0, self.started[place] + self._duration_s - now)
        # An interval that an outage was in is not believed for long. One has passed by half, on average.
        intervals_s = ahead and (ahead + 0.5) * min(self._interval_s, self._duration_s)
        return max(until_free_s + rounds * self._duration_s, intervals_s)
