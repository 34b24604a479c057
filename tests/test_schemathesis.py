"""Schemathesis, with all of its checks, against a service that is served as in production."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parent.parent
START_SECONDS_MAX = 30
RUN_SECONDS_MAX = 120


@pytest.fixture
def base_url(database_url: str, tmp_path: Path) -> Iterator[str]:
    """Serve a database of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "service", "serve", "--port", str(port)]
    with (tmp_path / "service.log").open("wb") as log:
        environment = {**os.environ, "DATABASE_URL": database_url}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        wait_until_ready(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(START_SECONDS_MAX)


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    pytest.fail("The service did not become ready.")


def test_schemathesis_finds_nothing(base_url: str) -> None:
    schemathesis = Path(sys.executable).with_name("schemathesis")
    options = ["--checks", "all", "--no-color"]
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    run = subprocess.run(
        [schemathesis, "--config-file", "tests/schemathesis.toml", "run", f"{base_url}/openapi.json", *options],
        cwd=ROOT,
        env=unmeasured,  # coverage of the service is what is asked for, and takes its time
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )
    assert run.returncode == 0, run.stdout
