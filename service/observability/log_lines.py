"""The lines of the log: which fields they have, as JSON for programs and as text for people."""

import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from service.observability.current_request import current_scope, trace_context

# Where SQL is logged, its arguments are; so are rows that the database refuses.
PASSWORD_HASH = re.compile(r"\$argon2[\w$=,+/]*")
PLAIN = re.compile(r"[\w./:+@%,*-]+", re.ASCII)
INDENTATION = "    "
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class RequestFields(logging.Filter):
    """Adds to what is logged while a request is served its request_id, and its trace_id if it is part of a trace."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields, unless the record has them."""
        scope = current_scope()
        if scope is not None:
            context = trace_context(scope)
            fields = {"request_id": scope["request_id"].decode()}
            if context is not None:
                fields["trace_id"] = context.trace_id
            vars(record).update({**fields, **vars(record)})
        return True


class JSONLines(logging.Formatter):
    """Formats a record as one JSON object a line: time, level, logger, message, and the fields of `extra`.

    Hashes of passwords are left out.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        line: dict[str, Any] = {
            "time": time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **dict(extra_fields(record)),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return PASSWORD_HASH.sub("[password hash]", to_json(line))


class TextLines(logging.Formatter):
    """Formats a record for a terminal: time, level, logger, message, then the fields; further lines are indented.

    Hashes of passwords are left out, and nothing that a client sent can steer the terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        time = time_of(record).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        head = f"{time} {record.levelname.lower():7} {record.name}: {printable(record.getMessage())}"
        fields = [f"{name}={quoted(value)}" for name, value in extra_fields(record)]
        text = "  ".join([head, *([" ".join(fields)] if fields else [])])
        if record.exc_info:
            text += "\n" + INDENTATION + printable(self.formatException(record.exc_info))
        return PASSWORD_HASH.sub("[password hash]", text)


def time_of(record: logging.LogRecord) -> datetime:
    """Return the time of a record."""
    return datetime.fromtimestamp(record.created, UTC)


def extra_fields(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    """Yield what a record has beside the attributes of every one."""
    return ((name, value) for name, value in vars(record).items() if name not in STANDARD)


def to_json(value: Any) -> str:
    """Return the JSON of whatever it is."""
    return msgspec.json.encode(value, enc_hook=str).decode()


def quoted(value: Any) -> str:
    """Return the value of a field: text as it is, if it is plain, and all else as JSON."""
    return value if isinstance(value, str) and PLAIN.fullmatch(value) else printable(to_json(value))


def printable(text: str) -> str:
    """Return a text in which lines after the first are indented, and characters that cannot be printed are escaped."""
    lines = text.split("\n")
    return f"\n{INDENTATION}".join("".join(map(_shown, line)) for line in lines)


def _shown(character: str) -> str:
    return character if character.isprintable() or character == "\t" else repr(character)[1:-1]
