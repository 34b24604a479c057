"""The state of a worker process, which its parent process changes and its requests read."""

from collections.abc import Awaitable, Callable, MutableSequence

from service.cells import Slot, Slots


class WorkerState:
    """Whether a worker drains or shuts down, how many requests it serves, and the memory that it shares with others."""

    def __init__(self, latest_primary: MutableSequence[int] | None = None, slot: Slot | None = None) -> None:
        self.is_draining = False  # clients should open their next connection to another worker
        self.is_shutting_down = False  # or to another instance: the whole service ends
        self.requests = 0  # that are being served
        self.latest_primary = latest_primary
        self.slot = slot or Slot(Slots(workers=1), 1)  # where its metrics are

    async def start(self, check: Callable[[], Awaitable[object]]) -> None:
        """Note that the worker serves; `check` raises a problem unless it is ready.

        A worker with a parent process reports it there, and a successor waits until it is ready.
        """

    def serve_metrics(self, text: Callable[[str], tuple[bytes, str]]) -> None:
        """Serve the metrics at a port of their own, if the worker's parent has one."""
