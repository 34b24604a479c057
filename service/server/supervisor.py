"""The parent process of the workers: it starts, replaces and ends them without a failed request."""

import logging
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from math import inf
from multiprocessing import Pipe
from multiprocessing.connection import wait
from multiprocessing.sharedctypes import RawArray

from db.batching.connection_sets import LOGGED, SHARED_INTEGERS
from db.engines.url import Host
from service.app import create_app
from service.cells import SUPERVISOR, Slot, Slots
from service.observability.metrics import Metrics
from service.observability.processes import ProcessMetrics, free_slot, vacate
from service.server.granian import Granian
from service.server.listener import listeners, reopened, shared_listener
from service.server.worker import DRAIN, EXIT, GROUP_SIGNALS, SHUTDOWN, ChildState, Shared, Worker, load
from service.settings import Settings

log = logging.getLogger(__name__)

TICK_S = 0.5
START_TIMEOUT_S = 60.0
# After a start that failed while another worker serves.
RETRY_S = 5.0
# The signals of this time are one: `make serve` passes on a SIGTERM that its whole group has got already.
SIGNALS_S = 1.0
# How long a worker lives at least: workers that die or grow too large again and again must not take all of the machine.
LIFE_S_MIN = 1.0
LARGE_LIFE_S_MIN = 5.0
# In a row, not by a kill, while none serves: then the service cannot work at all, and must not look as if it did.
FAILED_STARTS_MAX = 3


class Supervisor:
    """Runs a worker at each socket until a signal ends the service; replaces those that die, grow old or too large."""

    def __init__(self, settings: Settings, *, outage_logged: bool = False) -> None:
        self._settings = settings
        self._drain_delay_s = settings.drain_delay_ms / 1000
        self._granian = Granian(settings)
        self._sockets = listeners(settings.host, settings.port, settings.workers, settings.send_timeout_ms)
        # Without a lock, which a worker that is killed would keep.
        self._latest_primary = RawArray("Q", SHARED_INTEGERS)
        self._latest_primary[LOGGED] = outage_logged
        # One worker at a time is replaced, and then has a successor beside it.
        self._slots = Slots(settings.workers)
        self._metrics = ProcessMetrics(Metrics(self._slots, SUPERVISOR))
        self._metrics.enter()
        port = settings.metrics_port
        self._metrics_listener = shared_listener(settings.host, port) if port else None
        self._workers: list[Worker] = []
        self._extra: list[Worker] = []  # beside those: successors that do not serve yet, and workers that they replace
        self._failed_starts = 0
        self._due: dict[int, float] = {}  # the indices of workers to replace, and from when on
        self._replaces_all = self._ends = False  # which a signal changes
        self._ended_at = 0.0
        self._woken, self._waker = Pipe(duplex=False)

    def run(self) -> int:
        """Serve until the end, and return the exit code: 1 if a worker failed that was not replaced."""
        for number in GROUP_SIGNALS:
            signal.signal(number, self._on_signal)
        scheme = "https" if self._settings.tls_cert else "http"
        log.info("Listening at: %s://%s", scheme, Host(self._settings.host, self._settings.port))
        try:
            for index in range(self._settings.workers):
                self._workers.append(self._start(index))
        except OSError as error:
            log.error("A worker cannot be started: %s", error.strerror)  # noqa: TRY400 - one line says it
            self._failed_starts = FAILED_STARTS_MAX
        try:
            while not self._is_over():
                self._wait(lambda: self._replaces_all, TICK_S)
                self._replace_due()
            return self._shut_down()
        except Exception:
            log.exception("The service ends by a mistake of its own")
            self._kill()  # or they would serve on, with nobody to replace or to end them
            return 1

    def _on_signal(self, number: int, _frame: object) -> None:
        """Replace all at SIGHUP; drain at any other signal, Ctrl-C without the delay; exit at once at the second."""
        self._waker.send_bytes(b"")
        if number == signal.SIGHUP:
            self._replaces_all = True
            return
        if not self._ends:
            self._ends, self._ended_at = True, time.monotonic()
        elif time.monotonic() - self._ended_at > SIGNALS_S:
            self._kill()
            os._exit(1)
        if number == signal.SIGINT:
            self._drain_delay_s = 0

    def _kill(self) -> None:
        for worker in (*self._workers, *self._extra):
            worker.process.kill()

    def _is_over(self) -> bool:
        return self._ends or self._failed_starts >= FAILED_STARTS_MAX

    def _start(self, index: int, *, is_successor: bool = False) -> Worker:
        """Start a worker. Raises OSError if there can be no process, or no file, more."""
        ours, theirs = Pipe()
        pipes = [ours, *(worker.pipe for worker in (*self._workers, *self._extra))]
        others = [one for one in self._sockets if one is not self._sockets[index]]
        create = partial(create_app, self._settings)
        inode = os.fstat(self._sockets[index].fileno()).st_ino
        slot = self._free_slot()
        shared = Shared(self._latest_primary, Slot(self._slots, slot), self._metrics_listener)
        state = partial(ChildState, theirs, shared, listener_inode=inode, is_successor=is_successor)
        application = partial(load, create, state, [*pipes, *others])
        process = self._granian.process(index, self._sockets[index], application)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)  # which the worker inherits
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
            self._granian.release()
        worker = Worker(index, process, ours, slot)
        self._metrics.started.add()
        log.info("Spawned %s with PID %d", worker.name, process.pid)
        return worker

    def _free_slot(self) -> int:
        """Return a slot that no living worker has; what is left of those that ended is no process any more."""
        workers = [*self._workers, *self._extra]
        return free_slot(self._slots, {worker.slot for worker in workers if worker.process.is_alive()})

    def _wait(self, condition: Callable[[], bool], limit_s: float) -> None:
        """Wait for a condition, and meanwhile replace workers that die."""
        deadline = time.monotonic() + limit_s
        while not self._is_over() and not condition() and time.monotonic() < deadline:
            self._pause(deadline)
            for worker in list(self._workers):
                if not worker.process.is_alive() and worker.age_s > LIFE_S_MIN and not self._is_over():
                    self._restart(worker)

    def _restart(self, dead: Worker) -> None:
        """Start a worker in the place of a dead one, which may have to wait: see RETRY_S."""
        index = dead.index
        if not dead.is_reported:
            self._note_death(dead)
            if not dead.failed_to_start:
                self._failed_starts = 0
            elif self._has_failed():
                self._try_later(index, f"{dead.name} cannot start")
        if not self._is_over() and time.monotonic() >= self._due.get(index, 0):
            self._due.pop(index, None)
            try:
                self._workers[index] = self._start(index)
            except OSError as error:
                self._has_failed()
                self._try_later(index, f"{dead.name} cannot be started: {error.strerror}")
            else:
                dead.end()

    def _note_death(self, dead: Worker) -> None:
        dead.is_reported = True
        log.error("Unexpected exit from %s", dead.name)
        self._metrics.died.add()
        vacate(self._slots, dead.slot)

    def _has_failed(self) -> bool:
        """Count a start that failed, unless another worker serves; return whether one does."""
        others_serve = any(worker.serves for worker in self._workers)
        self._failed_starts = 0 if others_serve else self._failed_starts + 1
        return others_serve

    def _try_later(self, index: int, what: str) -> None:
        log.warning("%s; the next attempt is in %d s", what, RETRY_S)
        self._due[index] = time.monotonic() + RETRY_S
        self._sockets[index] = reopened(self._sockets[index])  # none waits where none accepts

    def _pause(self, deadline: float) -> None:
        """Wait for a signal, the end of a worker, or a tick."""
        processes = [worker.process for worker in (*self._workers, *self._extra)]
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

    def _replace_due(self) -> None:
        """Replace each worker that has grown old or too large, or all after SIGHUP; try those later that failed."""
        replaces_all, self._replaces_all = self._replaces_all, False
        for worker in list(self._workers):
            if replaces_all:
                self._due[worker.index] = 0
            elif self._is_due(worker):
                self._due.setdefault(worker.index, 0)
        for index in list(self._due):
            # One that dies while another is replaced is started anew, and is due no more.
            due = self._due.get(index, inf)
            if time.monotonic() >= due and self._workers[index].process.is_alive() and not self._is_over():
                self._due.pop(index)
                self._replace(index)

    def _replace(self, index: int) -> None:
        """Start a successor; when it serves, drain the old worker, and then end it. If it does not, end the successor.

        A successor is ready before it accepts connections, which it would take from the worker that serves.
        """
        name = self._workers[index].name
        log.info("Replacing %s", name)
        try:
            successor = self._start(index, is_successor=self._workers[index].serves)
        except OSError as error:
            log.warning("%s is not replaced: %s; the next attempt is in %d s", name, error.strerror, RETRY_S)
            self._due[index] = time.monotonic() + RETRY_S
            return
        self._extra.append(successor)
        self._wait(lambda: successor.has_started or not successor.process.is_alive(), START_TIMEOUT_S)
        if self._is_over():
            return
        self._extra.remove(successor)
        if not successor.serves:
            log.warning("%s is not replaced, as its successor cannot serve; the next attempt is in %d s", name, RETRY_S)
            self._due[index] = time.monotonic() + RETRY_S
            successor.end()
            vacate(self._slots, successor.slot)
            return
        old, self._workers[index] = self._workers[index], successor
        self._extra.append(old)
        for message, limit_s in ((DRAIN, self._drain_delay_s), (EXIT, self._settings.shutdown_timeout_s)):
            if not self._is_over():
                old.send(message)
                self._wait(lambda: not old.process.is_alive(), limit_s)
        if not self._is_over():
            old.end()
            vacate(self._slots, old.slot)
            self._extra.remove(old)
            self._metrics.replaced.add()

    def _shut_down(self) -> int:
        """Wait while clients and load balancers go elsewhere, then end the workers."""
        log.info("Shutting down")
        workers, serving = [*self._workers, *self._extra], list(self._workers)
        for worker in workers:
            worker.send(SHUTDOWN)
        # No client can have come to a service none of whose workers has started.
        delay_s = self._drain_delay_s if any(worker.has_started for worker in workers) else 0
        deadline = time.monotonic() + delay_s
        while serving and time.monotonic() < deadline:
            self._pause(deadline)
            for worker in [one for one in serving if not one.process.is_alive()]:
                self._note_death(worker)
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
