"""The image in a container: its own processes and mounts, a root file system that is read-only, and no rights."""

import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import psutil

from tests.support.waiting import LIMIT_S, wait_until

# Its arguments: the image's root, its volume, the options of the volume; what follows takes the place of the shell.
MOUNT = """
mount --bind "$1" "$1"
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc"
mount -o remount,bind,ro "$1"
mount -t tmpfs -o "$3" tmpfs "$1$2"
shift 3
exec "$@"
"""
SEPARATE = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", MOUNT, "sh"]


class Container:
    """A command of the image, as its first process, there from entering the block until leaving it."""

    def __init__(self, root: Path, configuration: dict[str, Any], folder: Path, *command: str, **environ: str) -> None:
        self._folder = folder
        self._user, self._group = configuration["User"].split(":")
        [volume] = configuration["Volumes"]
        owner = (root / volume.lstrip("/")).stat()  # as a new volume has it
        options = f"uid={owner.st_uid},gid={owner.st_gid},mode={owner.st_mode & 0o777:o}"
        self._environ = [*configuration["Env"], *(f"{name}={value}" for name, value in environ.items())]
        self._as_user = [f"--setgid={self._group}", f"--setuid={self._user}"]
        enter = ["setpriv", "--no-new-privs", "--clear-groups"]
        enter += ["unshare", f"--root={root}", f"--wd={configuration['WorkingDir']}", *self._as_user]
        run = ["env", "-i", *self._environ, *configuration["Entrypoint"], *(command or configuration["Cmd"])]
        self._command = [*SEPARATE, root, volume, options, *enter, *run]
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with (self._folder / "log").open("wb") as log:
            self.outer = subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)
        self._resources.callback(self.outer.wait, LIMIT_S)
        self._resources.callback(self.outer.kill)  # and with it the first process, which ends all others
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    @property
    def log(self) -> str:
        """What it had to say so far."""
        return (self._folder / "log").read_text(errors="replace")

    @property
    def process(self) -> psutil.Process:
        """The first process."""
        wait_until(lambda: bool(psutil.Process(self.outer.pid).children()))
        return psutil.Process(self.outer.pid).children()[0]

    def run(self, *command: str) -> int:
        """Run another command in it, as the same user, and return its exit code."""
        enter = ["nsenter", f"--target={self.process.pid}", "--mount", "--pid", "--root", "--wd", *self._as_user]
        done = subprocess.run([*enter, "env", "-i", *self._environ, *command], check=False, timeout=LIMIT_S)
        return done.returncode
