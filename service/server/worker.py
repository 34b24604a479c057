"""A worker process, and the pipe to its parent: the worker reports its start, the parent drains and ends it."""

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, MutableSequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from socket import socket
from typing import Any, NamedTuple

from service.cells import Slot
from service.http.problems import ProblemError
from service.server.granian import stop_accepting
from service.server.listener import deafen
from service.server.metrics_server import MetricsServer, Text
from service.server.termination import Termination
from service.server.tls import UnusableFile
from service.worker_state import WorkerState

log = logging.getLogger(__name__)

# The messages. From the worker: it serves. To the worker: make the clients connect to another worker; or to another
# instance, as the whole service ends; respond to what is in flight, and exit.
STARTED, DRAIN, SHUTDOWN, EXIT = b"started", b"drain", b"shutdown", b"exit"
# A terminal or a process supervisor may send these to every process of the service: only the parent acts on them.
GROUP_SIGNALS = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM}

READINESS_INTERVAL_S = 0.25
# By then Granian has read the files of TLS, between two runs of the event loop, or has ended the worker, as it does
# when it cannot use them (2.8.7: a panic): a worker that has reported its start is one that serves.
GRANIAN_STARTS_S = 0.1


def load(
    create_app: Callable[[WorkerState], Any],
    create_state: "Callable[[asyncio.AbstractEventLoop], ChildState]",
    others: Iterable[socket | Connection],
    terminate: Callable[[], Termination | None] | None = None,
) -> Any:
    """Return a worker's application, made in the worker, where sockets and pipes of other processes are closed.

    Under TLS, `terminate` makes what ends it in front of Granian, or None where Granian does that itself.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)  # a process that is spawned, not forked, inherits not all
    for one in others:
        one.close()
    Finalize(None, logging.shutdown, exitpriority=0)  # no other exit handler runs in a process of multiprocessing's
    try:
        termination = terminate() if terminate else None
    except UnusableFile as error:
        log.error("The worker cannot start: %s", error)  # noqa: TRY400 - one line says it
        sys.exit(1)
    state = create_state(asyncio.get_event_loop())
    if termination:
        state.termination = termination
    elif terminate:
        state.report_after_s = GRANIAN_STARTS_S
    app = create_app(state)
    if termination:
        app = termination.wrap(app)
    # What exists by now stays: each full collection that traverses it would stop the worker for 50 ms.
    gc.collect()
    gc.freeze()
    return app


class Shared(NamedTuple):
    """What a worker has of its parent, and shares with the other workers."""

    latest_primary: MutableSequence[int]
    slot: Slot
    metrics_listener: socket | None  # if the metrics have a port of their own


class ChildState(WorkerState):
    """The state of a worker that has a parent process, which changes it through a pipe.

    Messages are read from the first moment of the event loop: a worker that does not serve yet exits at once.
    """

    def __init__(
        self,
        parent: Connection,
        shared: Shared,
        loop: asyncio.AbstractEventLoop,
        *,
        listener_inode: int,
        is_successor: bool,
    ) -> None:
        super().__init__(shared.latest_primary, shared.slot)
        self._metrics_listener = shared.metrics_listener
        self._metrics_server: MetricsServer | None = None
        self._listener_inode = listener_inode
        self.termination: Termination | None = None  # what ends TLS, if it does not end in Granian
        self.report_after_s = 0.0
        self._ending: asyncio.Task[None] | None = None
        self._parent = parent
        self._loop = loop
        self._is_successor = is_successor
        self._has_started = False
        loop.add_reader(parent.fileno(), self._read_message)

    async def start(self, check: Callable[[], Awaitable[object]]) -> None:
        """Report to the parent that this worker serves; a successor of one that serves has to be ready first."""
        if self._is_successor:
            await self._until_ready(check)
        self._has_started = True
        if self.termination:
            self.termination.start()
        if self.report_after_s:
            self._loop.call_later(self.report_after_s, self._report)
        else:
            self._report()

    def serve_metrics(self, text: Text) -> None:
        """Serve the metrics at a port of their own, if the worker's parent has one."""
        if self._metrics_listener is not None:
            self._metrics_server = MetricsServer(self._metrics_listener, text)

    def _report(self) -> None:
        with suppress(OSError):  # the parent was killed, which the first read will find
            self._parent.send_bytes(STARTED)

    async def _until_ready(self, check: Callable[[], Awaitable[object]]) -> None:
        """Wait until `check` raises no problem; the parent ends a worker that waits too long."""
        reason = ""
        while True:
            try:
                await check()
            except ProblemError as problem:
                if str(problem) != reason:
                    reason = str(problem)
                    log.warning("The successor of a worker is not ready, and does not replace it: %s", reason)
                await asyncio.sleep(READINESS_INTERVAL_S)
            else:
                return

    def _read_message(self) -> None:
        message, is_orphan = EXIT, True  # if the parent was killed, as no message will come
        with suppress(EOFError, OSError):
            message, is_orphan = self._parent.recv_bytes(), False
        # Whoever replaces it, or is started anew, serves there. A service that ends is seen to its end.
        if self._metrics_server is not None and (is_orphan or message == DRAIN):
            self._metrics_server.stop()
        self.is_draining = True
        self.is_shutting_down = self.is_shutting_down or message == SHUTDOWN
        if message == DRAIN and self.termination is None:
            # What is accepted from now on would be closed when Granian ends, if its request was not there by then.
            deafen(self._listener_inode)
        if message == EXIT:
            self._loop.remove_reader(self._parent.fileno())
            if not self._has_started:
                logging.shutdown()
                os._exit(0)
            self._ending = self._loop.create_task(self._end())

    async def _end(self) -> None:
        """Accept no more, and have Granian end; under TLS it accepts what has been accepted in front of it."""
        if self.termination:
            await self.termination.stop()
        stop_accepting()


class Worker:
    """A worker process, as its parent has it."""

    def __init__(self, index: int, process: BaseProcess, pipe: Connection, slot: int) -> None:
        self.index, self.process, self.pipe = index, process, pipe
        self.slot = slot  # of its metrics
        self.name = f"worker-{index + 1}"  # as Granian logs it
        self._born = time.monotonic()
        self._has_started = False
        self.is_reported = False  # as dead

    @property
    def age_s(self) -> float:
        """The seconds since it was started."""
        return time.monotonic() - self._born

    @property
    def has_started(self) -> bool:
        """Whether it serves, or has served."""
        with suppress(EOFError, OSError):  # it has ended
            self._has_started = self._has_started or (self.pipe.poll() and self.pipe.recv_bytes() == STARTED)
        return self._has_started

    @property
    def serves(self) -> bool:
        """Whether it has started, and has not ended."""
        return self.has_started and self.process.is_alive()

    @property
    def failed_to_start(self) -> bool:
        """Whether it has ended before it served, and not by a kill."""
        return not self.has_started and self.process.exitcode not in {None, -signal.SIGKILL}

    def send(self, message: bytes) -> None:
        """Send a message to the worker, if it is still there."""
        with suppress(OSError):
            self.pipe.send_bytes(message)

    def end(self, deadline: float = 0.0) -> None:
        """Kill the process unless it has ended by the deadline, and close the pipe."""
        self.process.join(max(0, deadline - time.monotonic()))
        if self.process.is_alive():
            log.warning("Killing %s, which has not ended in time", self.name)
            self.process.kill()
            self.process.join()
        self.pipe.close()
