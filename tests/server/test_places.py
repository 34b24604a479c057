"""Where the service runs: as whom, and in which folders."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from db import revisions

ROOT = Path(__file__).parent.parent.parent
# A process of root's may enter every folder, unless it has given these up.
AS_OTHERS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


def shell(*command: str, code: Path = ROOT, cwd: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in a process of its own, which may not enter folders that are closed."""
    return subprocess.run(
        [*AS_OTHERS, sys.executable, "-m", *command],
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(code), **environ},
        timeout=60,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="root gives up its rights in Linux's way")
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("closed", [".", ".postgresql"])
@pytest.mark.parametrize("query", ["", "?ssl=prefer", "?ssl=allow"])
def test_a_home_that_may_not_be_entered_is_none(tmp_path: Path, database_url: str, closed: str, query: str) -> None:
    home = tmp_path / "home"
    (home / ".postgresql").mkdir(parents=True)
    (home / closed).chmod(0)
    try:
        done = shell("service", "check", cwd=tmp_path, HOME=str(home), DATABASE_URL=database_url + query)
    finally:
        (home / closed).chmod(0o700)
    assert done.returncode == 0, done.stderr


def test_the_path_of_the_code_may_have_percent_signs_and_blanks(tmp_path: Path, empty_database_url: str) -> None:
    code = tmp_path / "50% of %(here)s"
    for part in ("db", "service"):
        shutil.copytree(ROOT / part, code / part, ignore=shutil.ignore_patterns("__pycache__"))
    for command in ("migrate", "check"):
        done = shell("service", command, code=code, cwd=tmp_path, DATABASE_URL=empty_database_url)
        assert done.returncode == 0, done.stderr
        assert revisions.head() in done.stdout
