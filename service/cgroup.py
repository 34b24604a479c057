"""What the control groups of this process, and those above them, allow it: processors and memory (cgroups(7))."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf
from pathlib import Path, PurePosixPath
from typing import NamedTuple

ROOT = Path("/")
ESCAPE = re.compile(r"\\([0-7]{3})")
UNIFIED = "cgroup2"


class Limits(NamedTuple):
    """The least that any of the groups allows, inf where none has a limit."""

    cpus: float
    memory_bytes: float


class Mount(NamedTuple):
    """A hierarchy of control groups: where it is mounted, which of its groups is there, and its controllers."""

    path: Path
    root: str
    controllers: set[str]  # none in version 2, which has one hierarchy for all


def limits(root: Path = ROOT) -> Limits:
    """Return the limits of this process, as the files below `root` have them; without such files there are none."""
    return Limits(_least(root, "cpu", _cpus), _least(root, "memory", _memory_bytes))


def _least(root: Path, controller: str, read: Callable[[Path], float]) -> float:
    """Return the least limit of a controller in the groups of this process: each of them holds for all below it."""
    found = [inf]
    for group in _groups(root, controller):
        with suppress(OSError, ValueError):  # the group has no such file, as the root of all of them
            found.append(read(group))
    return min(found)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the groups that this process is in, as far up as they can be seen."""
    paths = _paths(root)
    for mount in _mounts(root):
        path = paths.get(controller if mount.controllers else "", "")
        if not path or (mount.controllers and controller not in mount.controllers):
            continue
        folder = mount.path / _below(path, mount.root)
        yield from (one for one in (folder, *folder.parents) if one.is_relative_to(mount.path))


def _below(path: str, root: str) -> PurePosixPath:
    """Return what a path has below that of the group which is mounted: a container may be told of those above, too."""
    with suppress(ValueError):
        return PurePosixPath(path).relative_to(root)
    return PurePosixPath()


def _paths(root: Path) -> dict[str, str]:
    """Return the path of this process's group in the hierarchy of each controller, "" for that of version 2."""
    lines = [line.split(":", 2) for line in _lines(root / "proc/self/cgroup") if line]
    return {name: path for _, controllers, path in lines for name in controllers.split(",")}


def _mounts(root: Path) -> Iterator[Mount]:
    """Yield the hierarchies that are mounted (proc_pid_mountinfo(5))."""
    for line in _lines(root / "proc/self/mountinfo"):
        mounted, _, kind = line.partition(" - ")
        _, _, _, group, path, *_ = mounted.split(" ")
        name, _, options = kind.split(" ", 2)
        if name in {"cgroup", UNIFIED}:
            controllers = set() if name == UNIFIED else set(options.split(","))
            yield Mount(root / _unescaped(path).lstrip("/"), _unescaped(group), controllers)


def _lines(file: Path) -> list[str]:
    with suppress(OSError):
        return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return []


def _unescaped(text: str) -> str:
    return ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def _cpus(group: Path) -> float:
    """Return how many processors' time a group may use. Raises OSError, ValueError."""
    if (unified := group / "cpu.max").exists():
        quota, period = unified.read_text().split()
        return inf if quota == "max" else int(quota) / int(period)
    quota_us, period_us = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
    return quota_us / period_us if quota_us > 0 else inf


def _memory_bytes(group: Path) -> float:
    """Return how much memory a group may have. Raises OSError, ValueError. In version 1 no limit is a huge one."""
    if (unified := group / "memory.max").exists():
        text = unified.read_text().strip()
        return inf if text == "max" else int(text)
    return int((group / "memory.limit_in_bytes").read_text())
