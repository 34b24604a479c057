"""How long somebody will have to wait for those ahead, going by how long they took lately."""


class WaitEstimator:
    """What is in flight on some connections, by the moment it left."""

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._left: list[float] = []  # the oldest first
        self._duration_s = 0.0  # of one, as it was lately

    def start(self, now: float) -> float:
        """Let one leave now."""
        self._left.append(now)
        return now

    def finish(self, left: float) -> None:
        """Let one land that left at that moment."""
        self._left.remove(left)

    def observe(self, duration_s: float) -> None:
        """Learn how long one takes."""
        self._duration_s += (duration_s - self._duration_s) / 8

    def wait_s(self, ahead: int, now: float) -> float:
        """Estimate how long it is until one can leave that has others ahead of it, which leave one by one."""
        rounds, place = divmod(ahead, self._connections)
        place -= self._connections - len(self._left)  # connections that are free come first
        landing_s = 0.0 if place < 0 else max(0.0, self._left[place] + self._duration_s - now)
        return landing_s + rounds * self._duration_s
