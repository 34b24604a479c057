"""The pipe between a worker and its parent process, which tells it when to drain, to shut down and to exit."""

import asyncio
import os
import signal
from collections.abc import MutableSequence
from contextlib import suppress
from multiprocessing.connection import Connection

from service.worker_state import WorkerState

# What is said through the pipe: a worker serves; it is to let its clients go over to another worker, or to another
# instance; it is to answer what is in flight, and end.
STARTED, DRAIN, SHUTDOWN, EXIT = b"started", b"drain", b"shutdown", b"exit"
# A terminal or a process supervisor may send these to every process of the service: it is the parent who acts on them.
GROUP_SIGNALS = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM}


class ChildState(WorkerState):
    """The state of a worker that has a parent process, which changes it through a pipe."""

    def __init__(self, parent: Connection, latest_primary: MutableSequence[int]) -> None:
        super().__init__(latest_primary)
        self._parent = parent

    def start(self) -> None:
        """Tell the parent that this worker serves, and follow what it says from now on."""
        with suppress(OSError):  # it was killed, which is the first that there will be to read
            self._parent.send_bytes(STARTED)
        asyncio.get_running_loop().add_reader(self._parent.fileno(), self._follow)

    def _follow(self) -> None:
        word = EXIT  # if the parent was killed: nobody else would
        with suppress(EOFError, OSError):
            word = self._parent.recv_bytes()
        self.is_leaving = True
        self.is_stopping = self.is_stopping or word == SHUTDOWN
        if word == EXIT:
            asyncio.get_running_loop().remove_reader(self._parent.fileno())
            stop_accepting()


class WorkerChannel:
    """The parent's side of the pipe to a worker."""

    def __init__(self, worker: Connection) -> None:
        self._worker = worker
        self._has_started = False

    @property
    def has_started(self) -> bool:
        """Whether the worker serves, or did."""
        with suppress(EOFError, OSError):  # it has ended
            self._has_started = self._has_started or (self._worker.poll() and self._worker.recv_bytes() == STARTED)
        return self._has_started

    def say(self, word: bytes) -> None:
        """Tell the worker something, if it is still there."""
        with suppress(OSError):
            self._worker.send_bytes(word)

    def close(self) -> None:
        """Let go of a worker that has ended."""
        self._worker.close()


def stop_accepting() -> None:
    """Let the handler of SIGTERM run, which is Granian's, once: a third time would block the loop of granian 2.8.7."""
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # what is pending is delivered before this returns
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
