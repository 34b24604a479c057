"""The pipe between a worker and its parent process: the worker reports its start, the parent drains and ends it."""

import asyncio
import os
import signal
from collections.abc import MutableSequence
from contextlib import suppress
from multiprocessing.connection import Connection

from service.worker_state import WorkerState

# The messages. From the worker: it serves. To the worker: make the clients connect to another worker; or to another
# instance, as the whole service ends; respond to what is in flight, and exit.
STARTED, DRAIN, SHUTDOWN, EXIT = b"started", b"drain", b"shutdown", b"exit"
# A terminal or a process supervisor may send these to every process of the service: only the parent acts on them.
GROUP_SIGNALS = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM}


class ChildState(WorkerState):
    """The state of a worker that has a parent process, which changes it through a pipe."""

    def __init__(self, parent: Connection, latest_primary: MutableSequence[int]) -> None:
        super().__init__(latest_primary)
        self._parent = parent

    def start(self) -> None:
        """Report to the parent that this worker serves, and read its messages from now on."""
        with suppress(OSError):  # the parent was killed, which the first read will find
            self._parent.send_bytes(STARTED)
        asyncio.get_running_loop().add_reader(self._parent.fileno(), self._read_message)

    def _read_message(self) -> None:
        message = EXIT  # if the parent was killed, as no message will come
        with suppress(EOFError, OSError):
            message = self._parent.recv_bytes()
        self.is_draining = True
        self.is_shutting_down = self.is_shutting_down or message == SHUTDOWN
        if message == EXIT:
            asyncio.get_running_loop().remove_reader(self._parent.fileno())
            stop_accepting()


class WorkerChannel:
    """The parent's side of the pipe to a worker."""

    def __init__(self, worker: Connection) -> None:
        self._worker = worker
        self._has_started = False

    @property
    def has_started(self) -> bool:
        """Whether the worker serves, or has served."""
        with suppress(EOFError, OSError):  # it has ended
            self._has_started = self._has_started or (self._worker.poll() and self._worker.recv_bytes() == STARTED)
        return self._has_started

    def send(self, message: bytes) -> None:
        """Send a message to the worker, if it is still there."""
        with suppress(OSError):
            self._worker.send_bytes(message)

    def close(self) -> None:
        """Close the pipe to a worker that has ended."""
        self._worker.close()


def stop_accepting() -> None:
    """Run Granian's handler of SIGTERM, once: a third time would block the event loop of granian 2.8.7."""
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # what is pending is delivered before this returns
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
