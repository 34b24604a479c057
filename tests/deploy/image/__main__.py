"""Build the image with buildah, and see that it serves, read-only and as its user: `make image`, as root, on Debian."""

import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil

from tests.deploy.image.buildah import NEEDED, Buildah
from tests.deploy.image.container import Container
from tests.support.waiting import LIMIT_S, wait_until

log = logging.getLogger(__name__)

LAMP = {"name": "lamp", "price": 1.0, "in_stock": True}
CANNOT = 69  # EX_UNAVAILABLE


def main() -> int:
    """Build it, and try it; say what is missing where it cannot be built."""
    missing = [command for command in NEEDED if shutil.which(command) is None]
    if missing or os.geteuid():
        log.error("The image cannot be built; missing: %s", ", ".join(missing) or "the rights of root")
        return CANNOT
    # Not in memory, and where no two runs meet.
    with TemporaryDirectory(dir="/var/tmp") as name:
        buildah = Buildah(Path(name))
        timed("base", buildah.make_base)
        timed("image", buildah.build)
        with buildah.mounted() as root:
            configuration = buildah.configuration()
            timed("migrate", lambda: migrates(root, configuration, Path(name)))
            timed("serve", lambda: serves(root, configuration, Path(name)))
    log.info("The image serves, read-only and without rights.")
    return 0


def timed(what: str, act: Callable[[], None]) -> None:
    """Do something, and print how long it took."""
    begun = time.monotonic()
    act()
    log.info("%s: %.1f s", what, time.monotonic() - begun)


def migrates(root: Path, configuration: dict[str, Any], folder: Path) -> None:
    """Run another command than that of the image, to its end."""
    with Container(root, configuration, folder, "migrate") as container:
        assert container.outer.wait(LIMIT_S) == 0, container.log
        assert "The schema is at" in container.log


def serves(root: Path, configuration: dict[str, Any], folder: Path) -> None:
    """Let it serve, and end it as an orchestrator does."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # The network is this machine's, so it listens on loopback alone.
    settings = {"PORT": str(port), "ITEMSVC_HOST": "127.0.0.1", "ITEMSVC_DRAIN_DELAY_MS": "0"}
    with Container(root, configuration, folder, **settings) as container:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: container.outer.poll() is not None or is_ready(url))
        assert container.outer.poll() is None, container.log
        assert httpx.get(f"{url}/livez").is_success
        item = httpx.post(f"{url}/items", json=LAMP)
        assert item.status_code == 201, item.text
        assert httpx.get(f"{url}/{item.headers['location']}").json() == item.json()
        has_no_rights(container.process, configuration["User"])
        _, *check = configuration["Healthcheck"]["Test"]
        assert container.run(*check) == 0
        for path in ("/app/x", "/tmp/x", "/venv/x"):  # noqa: S108
            assert container.run("sh", "-c", f"echo >{path}") != 0, f"{path} can be written"
        assert container.run("test", "-f", "/data/items.db") == 0
        container.process.send_signal(signal.SIGTERM)
        assert container.outer.wait(LIMIT_S) == 0, container.log


def has_no_rights(process: psutil.Process, user: str) -> None:
    """See that neither the first process nor its workers have another user, or any capability."""
    for one in (process, *process.children(recursive=True)):
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{one.pid}/status").read_text().splitlines() if ":\t" in line
        )
        assert f"{one.uids().effective}:{one.gids().effective}" == user
        assert (status["CapEff"], status["CapPrm"], status["NoNewPrivs"], status["Groups"].strip()) == (
            "0" * 16,
            "0" * 16,
            "1",
            "",
        )


def is_ready(url: str) -> bool:
    """Return whether it serves."""
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    sys.exit(main())
