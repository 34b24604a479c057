"""The Dockerfile, as much of it as what runs the image has to know."""

import json
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CONTINUED = re.compile(r"\\\n\s*")


def instructions(name: str) -> list[str]:
    """Return the arguments of each instruction of that name in the last stage, which the image is."""
    text = CONTINUED.sub("", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    last = re.split(r"^FROM ", text, flags=re.MULTILINE)[-1]
    return re.findall(rf"^{name} (.*)$", last, re.MULTILINE)


def instruction(name: str) -> str:
    """Return the arguments of the only instruction of that name."""
    [arguments] = instructions(name)
    return arguments


def environment() -> dict[str, str]:
    """Return the variables that the image sets."""
    pairs = (pair.partition("=") for line in instructions("ENV") for pair in shlex.split(line))
    return {name: value for name, _, value in pairs}


def health_check() -> list[str]:
    """Return the command by which the image finds out that it is healthy."""
    _, _, command = instruction("HEALTHCHECK").partition("CMD ")
    return list(map(str, json.loads(command)))
