"""The image: what a start in it reads, and where it writes."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.deploy.dockerfile import ROOT, environment, health_check, instruction
from tests.support.serving import ServiceProcess
from tests.support.waiting import LIMIT_S


def image_environment(**environ: str) -> dict[str, str]:
    """Return the variables of a process in the image, with the code and the interpreter of these tests."""
    return {**environment(), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ}


def command(*arguments: str, cwd: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of the service as the image does, in another folder of data."""
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=image_environment(**environ),
        timeout=LIMIT_S,
    )


def test_the_address_of_the_database_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"sqlite:///{tmp_path / 'named.db'}\n")
    done = command("migrate", cwd=tmp_path, DATABASE_URL_FILE=str(tmp_path / "secret"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "named.db").exists()


def test_without_an_address_the_database_is_in_the_volume(tmp_path: Path) -> None:
    assert instruction("WORKDIR") == instruction("VOLUME") == "/data"
    assert environment()["PYTHONPATH"] == "/app"
    done = command("migrate", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "items.db").exists()


@pytest.mark.parametrize("name", ["service", "sqlite3", "db"])
def test_what_is_stored_in_the_volume_is_never_run(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("raise SystemExit(99)\n")
    done = command("migrate", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_image_sets_no_setting_but_the_address_to_listen_on() -> None:
    ours = {name for name in environment() if name.startswith("ITEMSVC_") or name in {"DATABASE_URL", "PORT"}}
    assert ours == {"ITEMSVC_HOST"}  # whose default no other container can reach; who sets it by a file has to unset it


def test_the_check_of_the_image_s_health_reads_the_port_from_where_the_service_does(tmp_path: Path) -> None:
    def health(**environ: str) -> int:
        done = subprocess.run([sys.executable, *health_check()[1:]], check=False, env=environ, timeout=LIMIT_S)
        return done.returncode

    with ServiceProcess(f"sqlite:///{tmp_path / 'items.db'}") as service:
        port = str(httpx.URL(service.url).port)
        (tmp_path / "port").write_text(f"{port}\n")
        assert health(PORT=port) == 0
        assert health(PORT_FILE=str(tmp_path / "port")) == 0
    assert health(PORT_FILE=str(tmp_path / "port")) != 0


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    command = [hadolint, ROOT / "Dockerfile"]
    found = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT_S)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
