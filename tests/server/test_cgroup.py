"""The limits of control groups, from the files that the kernel would have, and how many workers they are good for."""

from math import inf
from pathlib import Path

import pytest

from service.cgroup import Limits, limits
from service.worker_count import auto_workers, memory_shortage

MIB = 2**20
V2 = "29 23 0:26 {group} {path} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "33 31 0:30 {group} {path} rw,relatime shared:9 - cgroup cgroup rw,{controllers}"
OTHERS = "23 1 0:22 / /proc rw - proc proc rw\n24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n"


def machine(root: Path, groups: str, mounts: str, files: dict[str, str]) -> Path:
    """Write what a machine's kernel tells of a process's control groups."""
    for name, text in {"proc/self/cgroup": groups, "proc/self/mountinfo": OTHERS + mounts, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert limits(tmp_path) == Limits(inf, inf)


def test_the_root_of_all_groups_has_no_limit(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/", V2.format(group="/", path="/sys/fs/cgroup"), {"sys/fs/cgroup/cgroup.procs": "1"})
    assert limits(root) == Limits(inf, inf)


@pytest.mark.parametrize(("cpu", "cpus"), [("max 100000", inf), ("150000 100000", 1.5), ("20000 10000", 2.0)])
@pytest.mark.parametrize(("memory", "memory_bytes"), [("max", inf), ("536870912", 512 * MIB)])
def test_a_container_is_told_of_its_own_group_alone(
    tmp_path: Path, cpu: str, cpus: float, memory: str, memory_bytes: float
) -> None:
    files = {"sys/fs/cgroup/cpu.max": cpu, "sys/fs/cgroup/memory.max": memory}
    root = machine(tmp_path, "0::/", V2.format(group="/", path="/sys/fs/cgroup"), files)
    assert limits(root) == Limits(cpus, memory_bytes)


def test_the_least_of_a_group_and_those_above_it_counts(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/system.slice/cpu.max": "100000 100000",
        "sys/fs/cgroup/system.slice/memory.max": "max",
        "sys/fs/cgroup/system.slice/items.service/cpu.max": "400000 100000",
        "sys/fs/cgroup/system.slice/items.service/memory.max": str(MIB),
        "sys/fs/cgroup/other.slice/cpu.max": "1000 100000",
    }
    mount = V2.format(group="/", path="/sys/fs/cgroup")
    root = machine(tmp_path, "0::/system.slice/items.service", mount, files)
    assert limits(root) == Limits(1.0, MIB)


@pytest.mark.parametrize("path", ["/docker/abc", "/docker/abcdef", "/elsewhere"])
def test_a_container_may_be_told_of_groups_that_it_does_not_see(tmp_path: Path, path: str) -> None:
    mount = V2.format(group="/docker/abc", path="/sys/fs/cgroup")
    root = machine(tmp_path, f"0::{path}", mount, {"sys/fs/cgroup/cpu.max": "300000 100000"})
    assert limits(root).cpus == 3


def test_a_group_inside_of_what_is_mounted_counts(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cpu.max": "300000 100000", "sys/fs/cgroup/inner/cpu.max": "200000 100000"}
    root = machine(tmp_path, "0::/docker/abc/inner", V2.format(group="/docker/abc", path="/sys/fs/cgroup"), files)
    assert limits(root).cpus == 2


def test_version_1_has_a_hierarchy_for_each_controller(tmp_path: Path) -> None:
    mounts = "\n".join(
        [
            V1.format(group="/", path=r"/sys/fs/cgroup/cpu\040time", controllers="cpu,cpuacct"),
            V1.format(group="/", path="/sys/fs/cgroup/memory", controllers="memory"),
            V2.format(group="/", path="/sys/fs/cgroup/unified"),
        ]
    )
    files = {
        "sys/fs/cgroup/cpu time/a/cpu.cfs_quota_us": "250000",
        "sys/fs/cgroup/cpu time/a/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/cpu time/a/b/cpu.cfs_quota_us": "-1",
        "sys/fs/cgroup/cpu time/a/b/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63 - 4096),
        "sys/fs/cgroup/memory/m/memory.limit_in_bytes": str(200 * MIB),
    }
    root = machine(tmp_path, "4:memory:/m\n1:cpu,cpuacct:/a/b\n0::/", mounts, files)
    assert limits(root) == Limits(2.5, 200 * MIB)


@pytest.mark.parametrize("text", ["", "max", "x 100000", "100000 0 1"])
def test_what_cannot_be_read_is_no_limit(tmp_path: Path, text: str) -> None:
    mount = V2.format(group="/", path="/sys/fs/cgroup")
    root = machine(tmp_path, "0::/", mount, {"sys/fs/cgroup/cpu.max": text})
    assert limits(root).cpus == inf


@pytest.mark.parametrize(
    ("cpus", "memory_mib", "workers"),
    [
        (inf, inf, 8),  # of the processors that the process may run on
        (16.0, inf, 8),
        (2.0, inf, 2),
        (2.9, inf, 2),
        (0.5, inf, 1),
        (inf, 512, 8),
        (inf, 256, 5),
        (inf, 64, 1),
    ],
)
def test_there_is_a_worker_for_each_whole_processor_and_memory_for_it(
    cpus: float, memory_mib: float, workers: int
) -> None:
    assert auto_workers(Limits(cpus, memory_mib * MIB), processors=8, workers_max=64) == workers


def test_there_are_no_more_workers_than_the_setting_takes() -> None:
    assert auto_workers(Limits(inf, inf), processors=192, workers_max=64) == 64


@pytest.mark.parametrize("memory_mib", [128, 200, 256, 300, 1024])
def test_as_many_workers_as_are_chosen_have_enough_memory(memory_mib: int) -> None:
    allowed = Limits(inf, memory_mib * MIB)
    workers = auto_workers(allowed, processors=16, workers_max=64)
    assert memory_shortage(allowed, workers) == ""
    assert workers == 16 or "processes may be killed" in memory_shortage(allowed, workers + 1)


def test_one_worker_may_be_too_many() -> None:
    assert memory_shortage(Limits(inf, 100 * MIB), 1).startswith(
        "the control group allows 100 MiB of memory; 1 worker,"
    )
    assert memory_shortage(Limits(inf, inf), 64) == ""


def test_a_mount_whose_name_is_no_utf_8_hides_no_limit(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cpu.max": "100000 100000"}
    root = machine(tmp_path, "0::/\n", V2.format(group="/", path="/sys/fs/cgroup"), files)
    with (root / "proc/self/mountinfo").open("ab") as mounts:
        mounts.write(b"30 23 8:2 / /mnt/\xff\xfe rw - ext4 /dev/sdb rw\n")
    assert limits(root).cpus == 1
