"""The parent process of the workers: it starts, replaces and ends them without a failed request."""

import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import RawArray
from typing import Any

from granian._granian import ProcInfoCollector, SocketHolder
from granian.log import logger
from granian.server.mp import MPServer, WorkerProcess

from service.server.worker import DRAIN, EXIT, GROUP_SIGNALS, SHUTDOWN, ChildState, WorkerChannel
from service.worker_state import WorkerState

Loader = Callable[[WorkerState], Any]

TICK_S = 0.5
START_TIMEOUT_S = 60.0
# How long a worker lives at least: workers that die or grow too large again and again must not take all of the machine.
LIFE_S_MIN = 1.0
LARGE_LIFE_S_MIN = 5.0
# In a row, and not by a kill: then the service cannot work at all, and must not look as if it did.
FAILED_STARTS_MAX = 3


class Supervisor(MPServer):
    """Granian's server, with a drain, and with a replacement of workers that die, grow old or grow too large.

    It rests on granian 2.8.7, where `_serve` calls `startup`, `_serve_loop` and `shutdown`; `startup` calls
    `_init_shared_socket` and `_spawn_workers`; `shutdown` calls `_drop_shared_socket` and `_stop_workers`. The loop of
    that version acts on no signal while it replaces a worker, may miss a death, and gives up when the same worker dies
    twice in 5.5 seconds.
    """

    def __init__(
        self,
        *,
        drain_delay_s: float,
        end_timeout_s: int,
        worker_lifetime_s: int,
        worker_memory_mib_max: int,
        **options: Any,
    ) -> None:
        super().__init__("service", workers_kill_timeout=end_timeout_s, **options)
        self._drain_delay_s = drain_delay_s
        self._end_timeout_s = end_timeout_s
        self._worker_lifetime_s = worker_lifetime_s
        self._worker_memory_bytes_max = worker_memory_mib_max * 2**20
        self._memory: Any = ProcInfoCollector()  # its types are wrong, as SocketHolder's
        self._shd: Any
        self._sockets: list[socket.socket] = []
        self._channels: dict[WorkerProcess, WorkerChannel] = {}
        self._latest_primary = RawArray("Q", 2)  # without a lock, which a worker that is killed would keep
        self._replaced: list[WorkerProcess] = []  # that have not ended
        self._failed_starts = 0
        self._start: Callable[[int], WorkerProcess]

    def _is_over(self) -> bool:
        return self.interrupt_signal or self._failed_starts >= FAILED_STARTS_MAX

    def signal_handler_interrupt(self, number: int, frame: object) -> None:
        """Drain at the first signal, without the delay at Ctrl-C, and exit at once at the second."""
        if self.interrupt_signal:
            for worker in (*self.wrks, *self._replaced):
                worker.kill()
            os._exit(1)
        if number == signal.SIGINT:
            self._drain_delay_s = 0
        super().signal_handler_interrupt(number, frame)

    def _init_shared_socket(self) -> None:
        """Open a socket for each worker, for as long as the service runs: what waits in it outlives the worker.

        A worker of Granian's opens a socket of its own, and its end loses what waits there. With one socket for all, as
        Granian has it elsewhere, the worker that wakes up first gets everything: 64 of 64 connections at once.
        """
        if sys.platform != "linux":  # other systems do not spread connections over sockets
            super()._init_shared_socket()
        else:
            self._sockets = [listener(self.bind_addr, self.bind_port, self.backlog) for _ in range(self.workers)]

    def _drop_shared_socket(self) -> None:
        super()._drop_shared_socket()
        for one in self._sockets:
            one.close()

    def _spawn_worker(  # type: ignore[override] # MPServer, too, leaves an argument out
        self, idx: int, target: Any, callback_loader: Loader
    ) -> WorkerProcess:
        ours, theirs = Pipe()
        if self._sockets:
            self._sso = self._sockets[idx]
            holder: Any = SocketHolder
            self._shd = holder(self._sso.fileno(), False, self.backlog)  # noqa: FBT003 - it is no Unix socket
        others = [one for one in self._sockets if one is not self._sso]
        worker = super()._spawn_worker(
            idx, target, partial(load, callback_loader, theirs, self._latest_primary, [ours, *others])
        )
        self._channels[worker] = WorkerChannel(ours)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)  # which the worker inherits
        worker.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return worker

    def _spawn_workers(self, spawn_target: Any, target_loader: Loader) -> None:
        self._start = partial(self._spawn_worker, target=spawn_target, callback_loader=target_loader)
        for idx in range(self.workers):
            self.wrks.append(self._start(idx))

    def _serve_loop(self, *_: Any) -> None:
        while not self._is_over():
            self._wait(lambda: self.reload_signal, TICK_S)
            for idx in self._due():
                self._replace(idx)

    def _wait(self, condition: Callable[[], bool], limit_s: float) -> None:
        """Wait for a condition, and meanwhile replace workers that die."""
        deadline = time.monotonic() + limit_s
        while not self._is_over() and not condition() and time.monotonic() < deadline:
            self._pause(deadline)
            for idx, worker in enumerate(self.wrks):
                if not worker.is_alive() and age_s(worker) > LIFE_S_MIN and not self._is_over():
                    self._failed_starts = self._failed_starts + 1 if self._failed_to_start(worker) else 0
                    self.wrks[idx] = self._start(idx)
                    self._channels.pop(worker).close()

    def _pause(self, deadline: float) -> None:
        self.main_loop_interrupt.wait(max(0, min(TICK_S, deadline - time.monotonic())))
        self.main_loop_interrupt.clear()

    def _failed_to_start(self, worker: WorkerProcess) -> bool:
        return not self._channels[worker].has_started and worker.inner.exitcode != -signal.SIGKILL

    def _due(self) -> Iterator[int]:
        """Yield the indices of the workers to replace: all at SIGHUP, else the too old and the too large."""
        replaces_all, self.reload_signal = self.reload_signal, False
        for idx, worker in enumerate(list(self.wrks)):
            if replaces_all or self._is_too_old(worker) or self._is_too_large(worker):
                yield idx

    def _is_too_old(self, worker: WorkerProcess) -> bool:
        return 0 < self._worker_lifetime_s < age_s(worker)

    def _is_too_large(self, worker: WorkerProcess) -> bool:
        if not self._worker_memory_bytes_max or age_s(worker) < LARGE_LIFE_S_MIN:
            return False
        try:
            return bool(self._memory.memory([worker.inner.pid])[worker.inner.pid] > self._worker_memory_bytes_max)
        except RuntimeError:  # it has ended
            return False

    def _replace(self, idx: int) -> None:
        """Start a successor; when it serves, drain the old worker, and then end it."""
        if self._is_over():
            return
        logger.info("Replacing worker-%d", idx + 1)
        old = self.wrks[idx]
        old.interrupt_by_parent = True  # so that its end is no surprise to Granian
        self._replaced.append(old)
        self.wrks[idx] = self._start(idx)
        self._wait(lambda: self._channels[self.wrks[idx]].has_started, START_TIMEOUT_S)
        for message, limit_s in ((DRAIN, self._drain_delay_s), (EXIT, self._end_timeout_s)):
            if self._is_over():  # the whole service ends
                return
            self._channels[old].send(message)
            self._wait(lambda: not old.is_alive(), limit_s)
        if not self._is_over():
            old.kill()
            old.join()
            self._replaced.remove(old)
            self._channels.pop(old).close()

    def shutdown(self, exit_code: int = 0) -> None:
        """Wait while clients and load balancers go elsewhere, then end; the exit code is 1 if a worker failed."""
        self.interrupt_children.clear()  # each of them was replaced
        current = list(self.wrks)
        self.wrks.extend(self._replaced)
        self._send_to_all(SHUTDOWN)
        deadline = time.monotonic() + self._drain_delay_s
        while time.monotonic() < deadline and any(worker.is_alive() for worker in current):
            self._pause(deadline)
            for worker in current:
                if self._sockets and not worker.is_alive():
                    self._sockets[worker.idx].close()  # no worker would accept what comes in there
        super().shutdown(exit_code or int(self._failed_starts >= FAILED_STARTS_MAX))

    def _stop_workers(self) -> None:
        self._send_to_all(EXIT)
        super()._stop_workers()

    def _send_to_all(self, message: bytes) -> None:
        for worker in self.wrks:
            self._channels[worker].send(message)


def age_s(worker: WorkerProcess) -> float:
    """Return the seconds since a worker was started."""
    return time.monotonic() - worker.birth


def listener(host: str, port: int, backlog: int) -> socket.socket:
    """Return a listening socket; Linux spreads connections evenly over all that listen at the address."""
    one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    for level, option in (
        (socket.SOL_SOCKET, socket.SO_REUSEADDR),
        (socket.SOL_SOCKET, socket.SO_REUSEPORT),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY),
    ):
        one.setsockopt(level, option, 1)
    one.bind((host, port))
    one.listen(backlog)
    return one


def load(
    loader: Loader,
    parent: Connection,
    latest_primary: MutableSequence[int],
    not_ours: Sequence[socket.socket | Connection],
) -> Any:
    """Return a worker's application, made in the worker, where sockets and pipes of other processes are closed."""
    signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
    for one in not_ours:
        one.close()
    app = loader(ChildState(parent, latest_primary))
    # What exists by now stays: each full collection that traverses it would stop the worker for 50 ms.
    gc.collect()
    gc.freeze()
    return app
