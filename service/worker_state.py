"""What a worker is told by its parent process, for whoever serves a request."""

from collections.abc import MutableSequence


class WorkerState:
    """Whether a worker is leaving or stopping, and the memory that it shares with the other workers of the service."""

    def __init__(self, latest_primary: MutableSequence[int] | None = None) -> None:
        self.is_leaving = False  # clients should come back on another connection
        self.is_stopping = False  # and to another instance: the whole service leaves
        self.latest_primary = latest_primary

    def start(self) -> None:
        """Note that the worker serves; one that has a parent process tells it so."""
