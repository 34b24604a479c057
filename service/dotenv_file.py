"""The .env file: its values, and every error that keeps one from being read."""

import errno
import re
import stat
from collections.abc import Collection, Mapping
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from dotenv.parser import Binding, parse_stream

# python-dotenv takes any word for a name: a URL, or one in double quotes, or one after a second byte order mark.
NAME = re.compile(r"[\w.-]+")
# Also after a semicolon, or after what other programs take for the end of a line.
ASSIGNMENT = re.compile(r"(?:^|[\s;])(?:export\s+)?([\w.-]+)\s*=", re.MULTILINE)


class Dotenv(NamedTuple):
    """The content of a .env file: values by name, and a sentence for each error, which shows no value."""

    values: dict[str, str]
    errors: list[str]


def read_dotenv(path: Path, names: Collection[str]) -> Dotenv:
    """Return the content of a .env file, empty if there is none; only for `names` are errors of the value looked for.

    Values are read without interpolation: a "$" in a password is a "$".
    """
    dotenv = Dotenv({}, [])
    try:
        bindings = list(parse_stream(StringIO(read_text(path))))
    except (OSError, ValueError) as unreadable:
        if not isinstance(unreadable, FileNotFoundError) or path.is_symlink():
            dotenv.errors.append(f"{path} cannot be read: {reason(unreadable)}")
        return dotenv
    for binding in bindings:
        if error := _error(binding, dotenv.values, names):
            dotenv.errors.append(f"{path}, line {_line(binding)}, {error}")
        elif binding.key is not None:
            dotenv.values[binding.key] = binding.value or ""
    return dotenv


def read_text(path: Path) -> str:
    """Return the text of a regular file in UTF-8, without a byte order mark. Raises OSError, ValueError.

    A pipe could be read without end, and so could a device; a folder is refused when it is opened.
    """
    if stat.S_IFMT(path.stat().st_mode) not in {stat.S_IFREG, stat.S_IFDIR}:
        raise OSError(errno.EINVAL, "it is no regular file")
    text = path.read_text(encoding="utf-8-sig")
    if "\0" in text:  # UTF-16 without a byte order mark is UTF-8 as well
        raise ValueError
    return text


def reason(error: OSError | ValueError) -> str:
    """Return why a file could not be read, without its name or content."""
    return (error.strerror if isinstance(error, OSError) else None) or "not text in UTF-8"


def _error(binding: Binding, values: Mapping[str, str], names: Collection[str]) -> str:
    name = binding.key or ""
    if binding.error or (name and not NAME.fullmatch(name)):
        return "cannot be read"
    if swallowed := _assigned_inside(binding).intersection(names):
        return f"has {min(swallowed)} inside of its value; expected a line of its own"
    value = binding.value or ""
    if name in names and values.get(name, value) != value:
        return f"sets {name} to another value than before; expected one of them"
    return ""


def _assigned_inside(binding: Binding) -> set[str]:
    """Return the names that a value assigns to; PORT only at the start of a line, as a command may have it."""
    text = binding.original.string.strip()
    found = [match for match in ASSIGNMENT.finditer(text) if match.start()]
    return {match[1] for match in found if match[1] != "PORT" or text[match.start()] in "\r\n"}


def _line(binding: Binding) -> int:
    # The empty lines before it are its own.
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
