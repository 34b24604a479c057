"""The unit of systemd: systemd takes it without a word, and the service its settings."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.command_line import parser
from service.settings import Settings
from service.settings_reader import read_settings
from tests.deploy.dockerfile import ROOT
from tests.support.waiting import LIMIT_S

ANALYZE = shutil.which("systemd-analyze")
FOLDER = ROOT / "deploy" / "systemd"
UNIT = FOLDER / "items.service"
DROP_IN = FOLDER / "items.service.d" / "postgresql.conf"
PYTHON = "/opt/items/.venv/bin/python"
EXPOSURE_MAX = 20  # of 100; systemd calls "OK" what is below 50
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")


def analyzed(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    assert ANALYZE is not None
    command = [ANALYZE, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT_S)


@pytest.fixture(params=[[UNIT], [UNIT, DROP_IN]], ids=["sqlite", "postgresql"])
def files(request: pytest.FixtureRequest) -> list[Path]:
    return list(request.param)


@pytest.fixture
def unit(files: list[Path], tmp_path: Path) -> Path:
    """Return the unit, with those that it is changed by, where the project is installed here."""
    for file in files:
        here = tmp_path / file.relative_to(FOLDER)
        here.parent.mkdir(exist_ok=True)
        text = file.read_text(encoding="utf-8").replace(PYTHON, sys.executable).replace("/opt/items", str(ROOT))
        here.write_text(text)
    return tmp_path / UNIT.name


def values(files: list[Path], name: str) -> list[str]:
    """Return what the files assign to a name."""
    return [value for file in files for value in re.findall(rf"^{name}=(.*)$", file.read_text(), re.MULTILINE)]


@needs_systemd
def test_systemd_has_nothing_to_say_about_it(unit: Path) -> None:
    done = analyzed("verify", "--man=no", unit)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
@pytest.mark.parametrize(
    ("there", "mistyped"), [("Type=exec", "Type=exce"), ("KillMode", "KilMode"), ("DynamicUser=yes", "DynamicUser=y_s")]
)
def test_systemd_would_say_so(unit: Path, there: str, mistyped: str) -> None:
    text = unit.read_text()
    assert there in text
    unit.write_text(text.replace(there, mistyped))
    done = analyzed("verify", "--man=no", unit)
    assert done.stdout + done.stderr != ""  # with an exit code of 0


@needs_systemd
def test_the_service_is_exposed_to_little(unit: Path) -> None:
    done = analyzed("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager", unit)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_command_is_one(files: list[Path]) -> None:
    commands = values(files, "ExecStart") + values(files, "ExecStartPre")
    for command in commands:
        start, _, arguments = command.partition(" -m service ")
        assert start == PYTHON
        assert parser().parse_args(arguments.split()).run
    assert len(commands) == len(files)


def test_the_service_takes_its_settings_and_has_its_time_to_drain(files: list[Path], tmp_path: Path) -> None:
    pairs = [pair.partition("=") for line in values(files, "Environment") for pair in line.split()]
    environ = {name: value for name, _, value in pairs}
    (tmp_path / "url").write_text("postgresql://items@postgresql/items")
    if "DATABASE_URL_FILE" in environ:
        [credential] = values(files, "LoadCredential")
        assert environ["DATABASE_URL_FILE"] == f"%d/{credential.partition(':')[0]}"
        environ["DATABASE_URL_FILE"] = str(tmp_path / "url")
    settings = read_settings(environ)
    assert settings.database_url.startswith("postgresql") == (len(files) > 1)
    assert settings.drain_delay_ms == Settings().drain_delay_ms
    [stops_s] = values(files, "TimeoutStopSec")
    assert int(stops_s) >= settings.drain_delay_ms / 1000 + settings.shutdown_timeout_s + 5
