"""Signals and closed pipes: any command ends at any time, at once and without a traceback."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest
from sqlalchemy import make_url

from db.engines.postgresql import SCHEMA_LOCK
from tests.support.serving import ROOT, ServiceProcess
from tests.support.waiting import LIMIT_S, wait_until

SERVICE = [sys.executable, "-m", "service"]
AS_PROCESS_1 = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]
HELD = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"

STOPS = pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])


def may_unshare() -> bool:
    try:
        return subprocess.run([*AS_PROCESS_1, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@contextmanager
def started(cwd: Path, *command: str, first: bool = False, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command; `first` makes it the first process of a namespace, as in a container."""
    prefix = AS_PROCESS_1 if first else []
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PORT": "0", **environ}
    pipe = subprocess.PIPE
    with subprocess.Popen([*prefix, *SERVICE, *command], stdout=pipe, stderr=pipe, text=True, cwd=cwd, env=env) as one:
        try:
            yield one
        finally:
            one.kill()


def service_of(process: subprocess.Popen[str], *, first: bool) -> psutil.Process:
    """Return the process of the command itself."""
    found = psutil.Process(process.pid)
    if first:
        wait_until(found.children)
        [found] = found.children()
    return found


def imports(process: psutil.Process) -> bool:
    """Whether it runs, and is on the way to import all that it needs."""
    try:
        return "msgspec" in Path(f"/proc/{process.pid}/maps").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("command", ["serve", "check", "openapi"])
@STOPS
def test_a_command_ends_at_once_while_it_is_still_starting(
    tmp_path: Path, command: str, number: signal.Signals, code: int, first: bool
) -> None:
    if first and not may_unshare():
        pytest.skip("may not make a namespace")
    with started(tmp_path, command, first=first) as process:
        service = service_of(process, first=first)
        wait_until(lambda: imports(service))
        service.send_signal(number)
        out, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, out, err) == (code, "", "")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_reload_while_a_service_is_still_starting_does_not_end_it(database_url: str, tmp_path: Path) -> None:
    with started(tmp_path, "serve", DATABASE_URL=database_url, ITEMSVC_DRAIN_DELAY_MS="0") as process:
        wait_until(lambda: imports(psutil.Process(process.pid)))
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        assert any("Started worker-1" in line for line in process.stderr), process.wait(LIMIT_S)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0


async def waiting(url: str) -> bool:
    connection = await asyncpg.connect(url)
    try:
        return bool(await connection.fetchval(HELD))
    finally:
        await connection.close()


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("first", [False, True])
@STOPS
def test_a_migration_that_waits_for_another_ends_at_once_and_waits_no_more(
    empty_database_url: str, tmp_path: Path, number: signal.Signals, code: int, first: bool
) -> None:
    if first and not may_unshare():
        pytest.skip("may not make a namespace")
    url = make_url(empty_database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with asyncio.Runner() as runner:
        holder = runner.run(asyncpg.connect(url))
        runner.run(holder.execute(f"SELECT pg_advisory_lock({SCHEMA_LOCK})"))
        with started(tmp_path, "migrate", first=first, DATABASE_URL=url) as process:
            service = service_of(process, first=first)
            wait_until(lambda: runner.run(waiting(url)))
            service.send_signal(number)
            out, err = process.communicate(timeout=LIMIT_S)
        assert (process.returncode, out, err) == (code, "", "")
        wait_until(lambda: not runner.run(waiting(url)))
        runner.run(holder.close())


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@STOPS
def test_a_start_that_waits_for_a_locked_database_ends_at_once(
    empty_database_url: str, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    path = make_url(empty_database_url).database or ""
    with closing(sqlite3.connect(path, isolation_level=None)) as locking:
        locking.execute("BEGIN EXCLUSIVE")
        with started(tmp_path, "serve", DATABASE_URL=f"sqlite:///{path}") as process:
            service = psutil.Process(process.pid)
            wait_until(lambda: any(one.path == path for one in service.open_files()))
            service.send_signal(number)
            out, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, out, err) == (code, "", "")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_service_whose_worker_cannot_start_yet_stops_without_a_drain(database_url: str) -> None:
    with ServiceProcess(database_url, ITEMSVC_DRAIN_DELAY_MS="600000") as service:
        [worker] = service.workers
        with closing(sqlite3.connect(make_url(database_url).database or "", isolation_level=None)) as locking:
            locking.execute("BEGIN IMMEDIATE")
            worker.kill()
            wait_until(lambda: service.log.count("Spawned worker-") == 2)
            service.send(signal.SIGTERM)
            assert service.wait() in {0, 1}, service.log
            assert "Killing" not in service.log


@pytest.mark.parametrize("command", [["openapi"], ["--help"], ["check"]], ids=" ".join)
def test_an_output_that_is_not_read_to_its_end_is_no_error(tmp_path: Path, command: list[str]) -> None:
    with started(tmp_path, *command) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(LIMIT_S) in {0, 141}  # argparse takes any error of its help for none
        assert process.stderr.read() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("command", [["openapi"], ["check"]], ids=" ".join)
def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path, command: list[str]) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*SERVICE, *command], check=False, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=env
        )
    assert (done.returncode, done.stderr) == (1, "The output cannot be written:\n- No space left on device\n")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["check", "migrate", "openapi"])
def test_an_output_that_is_closed_is_no_error(database_url: str, tmp_path: Path, command: str, closed: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "DATABASE_URL": database_url}
    run = ["sh", "-c", f'exec "$@" {closed}', "sh", *SERVICE, command]
    done = subprocess.run(run, check=False, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=env)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_service_whose_output_is_closed_stops_without_an_error(database_url: str, tmp_path: Path) -> None:
    env = {"PYTHONPATH": str(ROOT), "PORT": "0", "DATABASE_URL": database_url, "ITEMSVC_DRAIN_DELAY_MS": "0"}
    run = ["sh", "-c", 'exec "$@" >&-', "sh", *SERVICE, "serve"]
    pipe = subprocess.PIPE
    with subprocess.Popen(run, stderr=pipe, text=True, cwd=tmp_path, env={**os.environ, **env}) as process:
        assert process.stderr is not None
        assert any("Started worker-1" in line for line in process.stderr)
        process.terminate()
        _, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, "Traceback" in err) == (0, False)
