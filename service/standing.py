"""Where a worker stands between its start and its end: its parent process says so, through a pipe."""

import asyncio
import os
import signal
from collections.abc import MutableSequence
from contextlib import suppress
from multiprocessing.connection import Connection

STARTED, LEAVE, STOP, END = b"started", b"leave", b"stop", b"end"
# A terminal or a process supervisor may send these to every process of the service: it is the parent who acts on them.
GROUP_SIGNALS = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM}


class Standing:
    """A worker's side: whether it is leaving or stopping, and the memory that it shares with the other workers."""

    def __init__(self, parent: Connection | None = None, latest_primary: MutableSequence[int] | None = None) -> None:
        self.is_leaving = False  # callers should come back on another connection
        self.is_stopping = False  # and to another instance: the whole service leaves
        self.latest_primary = latest_primary
        self._parent = parent

    def begin(self) -> None:
        """Tell the parent that this worker serves, and follow what it says from now on."""
        if self._parent is not None:
            with suppress(OSError):  # it was killed, which is the first that there will be to read
                self._parent.send_bytes(STARTED)
            asyncio.get_running_loop().add_reader(self._parent.fileno(), self._follow, self._parent)

    def _follow(self, parent: Connection) -> None:
        word = END  # if the parent was killed: nobody else would
        with suppress(EOFError, OSError):
            word = parent.recv_bytes()
        self.is_leaving = True
        self.is_stopping = self.is_stopping or word == STOP
        if word == END:
            asyncio.get_running_loop().remove_reader(parent.fileno())
            stop_accepting()


class Line:
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
