"""The parent process of the workers: it starts, replaces and ends them without a failed request."""

import logging
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import wait
from multiprocessing.sharedctypes import RawArray

from db.engines.url import Host
from service.app import create_app
from service.server.granian import Granian
from service.server.listener import listeners
from service.server.worker import DRAIN, EXIT, GROUP_SIGNALS, SHUTDOWN, Worker, load
from service.settings import Settings

log = logging.getLogger(__name__)

TICK_S = 0.5
START_TIMEOUT_S = 60.0
# How long a worker lives at least: workers that die or grow too large again and again must not take all of the machine.
LIFE_S_MIN = 1.0
LARGE_LIFE_S_MIN = 5.0
# In a row, and not by a kill: then the service cannot work at all, and must not look as if it did.
FAILED_STARTS_MAX = 3


class Supervisor:
    """Runs a worker at each socket until a signal ends the service; replaces those that die, grow old or too large."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._drain_delay_s = settings.drain_delay_ms / 1000
        self._granian = Granian(settings)
        self._sockets = listeners(settings.host, settings.port, settings.workers)
        self._latest_primary = RawArray("Q", 2)  # without a lock, which a worker that is killed would keep
        self._workers: list[Worker] = []
        self._replaced: list[Worker] = []  # that have not ended
        self._failed_starts = 0
        self._replaces_all = self._ends = False  # which a signal changes
        self._woken, self._waker = Pipe(duplex=False)

    def run(self) -> int:
        """Serve until the end, and return the exit code: 1 if a worker failed that was not replaced."""
        for number in GROUP_SIGNALS:
            signal.signal(number, self._on_signal)
        log.info("Listening at: http://%s", Host(self._settings.host, self._settings.port))
        for index in range(self._settings.workers):
            self._workers.append(self._start(index))
        while not self._is_over():
            self._wait(lambda: self._replaces_all, TICK_S)
            replaces_all, self._replaces_all = self._replaces_all, False
            for index in range(self._settings.workers):
                if (replaces_all or self._is_due(self._workers[index])) and not self._is_over():
                    self._replace(index)
        return self._shut_down()

    def _on_signal(self, number: int, _frame: object) -> None:
        """Replace all at SIGHUP; drain at any other signal, Ctrl-C without the delay; exit at once at the second."""
        self._waker.send_bytes(b"")
        if number == signal.SIGHUP:
            self._replaces_all = True
            return
        if self._ends:
            for worker in (*self._workers, *self._replaced):
                worker.process.kill()
            os._exit(1)
        self._ends = True
        if number == signal.SIGINT:
            self._drain_delay_s = 0

    def _is_over(self) -> bool:
        return self._ends or self._failed_starts >= FAILED_STARTS_MAX

    def _start(self, index: int) -> Worker:
        ours, theirs = Pipe()
        pipes = [ours, *(worker.pipe for worker in (*self._workers, *self._replaced))]
        others = [one for one in self._sockets if one is not self._sockets[index]]
        create = partial(create_app, self._settings)
        application = partial(load, create, theirs, self._latest_primary, [*pipes, *others])
        process = self._granian.process(index, self._sockets[index], application)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)  # which the worker inherits
        process.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        worker = Worker(index, process, ours)
        log.info("Spawned %s with PID %d", worker.name, process.pid)
        return worker

    def _wait(self, condition: Callable[[], bool], limit_s: float) -> None:
        """Wait for a condition, and meanwhile replace workers that die."""
        deadline = time.monotonic() + limit_s
        while not self._is_over() and not condition() and time.monotonic() < deadline:
            self._pause(deadline)
            for index, worker in enumerate(self._workers):
                if not worker.process.is_alive() and worker.age_s > LIFE_S_MIN and not self._is_over():
                    log.error("Unexpected exit from %s", worker.name)
                    self._failed_starts = self._failed_starts + 1 if worker.failed_to_start else 0
                    self._workers[index] = self._start(index)
                    worker.end()

    def _pause(self, deadline: float) -> None:
        """Wait for a signal, the end of a worker, or a tick."""
        processes = [worker.process for worker in (*self._workers, *self._replaced)]
        ends = [process.sentinel for process in processes if process.is_alive()]
        wait([self._woken, *ends], max(0, min(TICK_S, deadline - time.monotonic())))
        while self._woken.poll():
            self._woken.recv_bytes()

    def _is_due(self, worker: Worker) -> bool:
        """Return whether a worker is too old or too large."""
        if 0 < self._settings.worker_lifetime_s < worker.age_s:
            return True
        bytes_max = self._settings.worker_memory_mib_max * 2**20
        return worker.age_s >= LARGE_LIFE_S_MIN and 0 < bytes_max < self._granian.resident_bytes(worker.process.pid)

    def _replace(self, index: int) -> None:
        """Start a successor; when it serves, drain the old worker, and then end it."""
        old = self._workers[index]
        log.info("Replacing %s", old.name)
        self._replaced.append(old)
        self._workers[index] = self._start(index)
        self._wait(lambda: self._workers[index].has_started, START_TIMEOUT_S)
        for message, limit_s in ((DRAIN, self._drain_delay_s), (EXIT, self._settings.shutdown_timeout_s)):
            if not self._is_over():
                old.send(message)
                self._wait(lambda: not old.process.is_alive(), limit_s)
        if not self._is_over():
            old.end()
            self._replaced.remove(old)

    def _shut_down(self) -> int:
        """Wait while clients and load balancers go elsewhere, then end the workers."""
        log.info("Shutting down")
        workers, serving = [*self._workers, *self._replaced], list(self._workers)
        for worker in workers:
            worker.send(SHUTDOWN)
        deadline = time.monotonic() + self._drain_delay_s
        while serving and time.monotonic() < deadline:
            self._pause(deadline)
            for worker in [one for one in serving if not one.process.is_alive()]:
                log.error("Unexpected exit from %s", worker.name)
                serving.remove(worker)
                self._sockets[worker.index].close()  # no worker would accept what comes in there
        for listener in self._sockets:
            listener.close()
        for worker in workers:
            worker.send(EXIT)
        deadline = time.monotonic() + self._settings.shutdown_timeout_s
        for worker in workers:
            worker.end(deadline)
        return int(len(serving) < len(self._workers) or self._failed_starts >= FAILED_STARTS_MAX)


def connection_budget(settings: Settings) -> str:
    """Return how many connections to PostgreSQL the workers may hold together; one at a time is replaced."""
    workers, batches, transactions = settings.workers, settings.batch_connections, settings.pool_size
    return (
        f"connections to {'PgBouncer' if settings.pgbouncer else 'PostgreSQL'}: "
        f"{workers} worker{'s' if workers > 1 else ''} x ({batches} for batches + {transactions} for transactions) = "
        f"{workers * (batches + transactions)}, and {batches + transactions} more while a worker is replaced"
    )
