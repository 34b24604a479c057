"""Granian's insides are those that were read when service/server/granian.py was written."""

import inspect
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import psutil
import pytest
from granian._signals import set_loop_signals
from granian.server.common import AbstractServer, AbstractWorker
from granian.server.mp import MPServer, WorkerProcess

from service.server.granian import Granian
from service.settings import Settings

READ_IN = "2.8.7"
# What was read, the digest of its source, and what service/server/granian.py relies on in it.
INSIDES: list[tuple[Callable[..., Any], str, str]] = [
    (AbstractServer.serve, "6e138b19f1f3b009", "what a worker needs of its preparations is set in `__init__`"),
    (AbstractServer.startup, "6b80a44c5e1db15e", "a worker needs nothing of its preparations"),
    (MPServer._spawn_worker, "87b0a0e68f390bca", "`_sso` and `_shd` are the socket; nothing is started"),
    (AbstractWorker.__init__, "8d3992fa57800b4a", "it calls `_spawn`; nothing is started"),
    (WorkerProcess.__init__, "55ef3ab3bb7afe15", "a process is forked or spawned, never made by a fork server"),
    (WorkerProcess._spawn, "b139771c9fd91967", "`inner` is the process"),
    (WorkerProcess.wrap_target, "590801916a38ee28", "the loader is called in the worker, before `target`"),
    (MPServer._spawn_asgi_lifespan_worker, "819eb9d2def0d782", "the lifespan is around the requests"),
    (set_loop_signals, "ce78d76020b2e048", "SIGTERM stops a worker, by a handler of its event loop"),
]


@pytest.mark.parametrize(("inside", "digest", "relied_on"), INSIDES, ids=lambda each: getattr(each, "__qualname__", ""))
def test_what_is_used_of_granians_insides_is_what_was_read(
    inside: Callable[..., Any], digest: str, relied_on: str
) -> None:
    found = sha256(inspect.getsource(inside).encode()).hexdigest()[:16]
    assert found == digest, (
        f"{inside.__qualname__} of granian {version('granian')} is not what it was in {READ_IN}: read it again. "
        f"service/server/granian.py relies on this: {relied_on}. If it still holds, the digest here becomes {found}."
    )


def test_a_worker_gets_the_socket_and_the_settings_that_granians_own_start_would_give_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        granian = Granian(Settings())
        process: Any = granian.process(0, listener, partial(int))
        _, _, _, ((spec, holder), shared), ipc, *_ = process._args
        assert (spec, holder.get_fd(), holder.is_uds(), shared) == (None, listener.fileno(), False, listener)
        assert (ipc, process.is_alive(), process._target) == (None, False, MPServer._spawn_asgi_lifespan_worker)
        assert granian.runtime_mode in process._args


def test_the_memory_of_a_process_is_in_bytes_and_to_ask_for_that_of_one_that_has_ended_is_no_error() -> None:
    assert 0.5 < Granian(Settings()).resident_bytes(os.getpid()) / psutil.Process().memory_info().rss < 2
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert Granian(Settings()).resident_bytes(process.pid) == 0
