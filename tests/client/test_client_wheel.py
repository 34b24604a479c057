"""The wheel of the client is enough: it is installed without the service, imported, and its types are checked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.serving import ROOT

PROGRAM = """
import asyncio

import items_client


async def main() -> None:
    async with items_client.Client("http://127.0.0.1:1", token="itm_1", timeout=0.2) as client:
        try:
            item: items_client.Item = await client.items.create(items_client.ItemCreate("lamp", 9.5))
            item = await client.items.update(item, price=8)
            item = await client.items.read_modify_write(item.id, lambda item: {"price": item.price + 1})
            names: list[str] = [item.name async for item in client.items.list(order="-price", in_stock=True)]
            print(names)
        except items_client.ItemsError as error:
            print(type(error).__name__, error.code, error.errors)


def script() -> float:
    with items_client.SyncClient("http://127.0.0.1:1") as client:
        return sum(item.price for item in client.items.list(owner_id=7))


asyncio.run(main())
"""
WRONG = """
import items_client


async def change(client: items_client.Client) -> str:
    item = await client.items.update(7, colour="red")
    return item.price
"""
OF_THE_SERVICE = ["db", "service", "starlette", "sqlalchemy", "granian", "opentelemetry"]
ABSENT = "import importlib.util as i; print([name for name in {names} if i.find_spec(name)])"
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV", "MAKE", "MFLAGS"))}


def run(*command: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)], cwd=cwd, env=CLEAN, check=False, capture_output=True, text=True, timeout=240
    )


def succeed(*command: object, cwd: Path = ROOT) -> str:
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as `make wheel` does."""
    folder = tmp_path_factory.mktemp("wheel")
    printed = succeed("make", "-n", "-o", ".venv/dev.stamp", "wheel")
    assert "--out-dir build" in printed
    succeed("sh", "-c", printed.replace("--out-dir build", f"--out-dir {folder}"))
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment that has the wheel and what it needs, at the pinned versions."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    succeed(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    constraints = folder / "constraints.txt"
    constraints.write_text(succeed(sys.executable, "-m", "uv", "pip", "freeze", "--python", sys.executable))
    arguments = ["install", "--quiet", "-c", constraints, wheel]
    uv = run(sys.executable, "-m", "uv", "pip", arguments[0], "--python", python, *arguments[1:])
    if uv.returncode:  # which does not read pip's configuration
        succeed(sys.executable, "-m", "pip", "--python", python, *arguments)
    return python


def test_the_wheel_works_without_the_service_and_what_that_needs(python: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    assert succeed(python, "-c", ABSENT.format(names=OF_THE_SERVICE), cwd=tmp_path) == "[]\n"
    assert succeed(python, "-W", "error", "program.py", cwd=tmp_path) == "ConnectionFailed  ()\n"


def test_a_program_that_uses_the_wheel_passes_mypy_and_a_wrong_one_does_not(python: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "wrong.py").write_text(WRONG, encoding="utf-8")
    check = [sys.executable, "-m", "mypy", "--strict", "--python-executable", python]
    succeed(*check, "program.py", cwd=tmp_path)
    found = run(*check, "wrong.py", cwd=tmp_path)
    assert found.returncode == 1, found.stderr
    assert 'Unexpected keyword argument "colour"' in found.stdout
    assert 'got "float", expected "str"' in found.stdout


def test_the_wheel_has_the_client_alone(wheel: Path) -> None:
    names = succeed(sys.executable, "-m", "zipfile", "-l", wheel)
    files = {line.split()[0].partition("/")[0] for line in names.splitlines()[1:]}
    assert {name.partition("-")[0] for name in files} == {"items_client"}
    assert "items_client/py.typed" in names
