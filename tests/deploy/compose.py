"""The file of compose, and what it mounts."""

from pathlib import Path
from typing import Any

import yaml

from tests.deploy.dockerfile import ROOT

FOLDER = ROOT / "deploy"
FILE = FOLDER / "compose.yaml"


def compose() -> dict[str, Any]:
    """Return the file of compose."""
    return dict(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def services() -> dict[str, dict[str, Any]]:
    """Return the services by name."""
    return dict(compose()["services"])


def mounts(service: dict[str, Any]) -> dict[str, Path]:
    """Return the files and folders of this one that a service has, by where it has them."""
    volumes = [volume.split(":") for volume in service.get("volumes", [])]
    return {there: FOLDER / here for here, there, *_ in volumes if here.startswith("./")}


def secret_paths(service: dict[str, Any]) -> dict[str, str]:
    """Return the secrets of a service, by the path that each has in it."""
    named = [{"source": one, "target": one} if isinstance(one, str) else one for one in service.get("secrets", [])]
    return {str(Path("/run/secrets", one["target"])): one["source"] for one in named}


def seconds(text: str) -> int:
    """Return a time, of which all are in seconds here."""
    return int(text.removesuffix("s"))
