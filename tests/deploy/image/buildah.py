"""buildah, with a store of its own: the base of the image, made of Debian's packages, and the image itself."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.deploy.dockerfile import ROOT

NEEDED = ("buildah", "debootstrap", "nsenter", "unshare")
PACKAGES = "ca-certificates,python3,python3-pip,python3-venv,python-is-python3"
BASE, IMAGE = "python:local", "items:local"
# By which pip gets to its index here; none of it gets into the image.
CONFIGURATION = ("/etc/pip.conf", "/etc/ssl/certs")


class Buildah:
    """Commands of buildah; what they keep is in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        store = [f"--root={folder / 'store'}", f"--runroot={folder / 'run'}", "--storage-driver=vfs"]
        self._command = ["buildah", *store]

    def run(self, *arguments: str | Path) -> str:
        """Run a command, and return what it prints."""
        return run([*self._command, *arguments])

    def make_base(self) -> None:
        """Make an image with Python and pip of the packages of this machine's Debian."""
        root = self._folder / "base"
        run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", codename(), root])
        for mark in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            mark.unlink()  # the images of python have none
        container = self.run("from", "scratch")
        self.run("add", "--quiet", container, root, "/")
        self.run("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", container)
        self.run("commit", "--quiet", container, BASE)
        self.run("rm", container)

    def build(self) -> None:
        """Build the image, in the format that has a health check."""
        mounts = [f"--volume={path}:{path}:ro" for path in CONFIGURATION if Path(path).exists()]
        arguments = [f"PYTHON={BASE.partition(':')[2]}", "VERSION=local"]
        build = [f"--build-arg={argument}" for argument in arguments]
        options = ["--format=docker", "--isolation=chroot", "--pull-never", "--layers=false", *mounts, *build]
        self.run("build-using-dockerfile", *options, f"--tag={IMAGE}", ROOT)

    def configuration(self) -> dict[str, Any]:
        """Return what the image says about its processes."""
        return dict(json.loads(self.run("inspect", "--type=image", IMAGE))["Docker"]["config"])

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """Give the root file system of the image."""
        container = self.run("from", "--pull-never", IMAGE)
        try:
            yield Path(self.run("mount", container))
        finally:
            self.run("rm", container)


def run(command: Sequence[str | Path]) -> str:
    """Run a command that must succeed, and return what it prints."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"})
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def codename() -> str:
    """Return the name of this machine's release of Debian."""
    return platform.freedesktop_os_release()["VERSION_CODENAME"]
