"""Logs: JSON lines on standard error."""

import logging
import re
from datetime import UTC, datetime
from typing import Any

import msgspec

# Where SQL is logged, its arguments are; so are rows that the database refuses.
PASSWORD_HASH = re.compile(r"\$argon2[\w$=,+/]*")


class JSONLines(logging.Formatter):
    """Formats a record as one JSON object a line: time, level, logger, message, and the fields of `extra`.

    Hashes of passwords are left out.
    """

    _standard = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update((name, value) for name, value in vars(record).items() if name not in self._standard)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return PASSWORD_HASH.sub("[password hash]", msgspec.json.encode(line, enc_hook=str).decode())


def log_settings(*, debug: bool) -> dict[str, Any]:
    """Return the configuration of logging in every process, for logging.config: JSON lines to standard error."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": {"()": "service.observability.logging.JSONLines"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "lines", "stream": "ext://sys.stderr"}},
        "root": {"level": "INFO", "handlers": ["stderr"]},
        "loggers": {
            "alembic": {"level": "WARNING"},
            "sqlalchemy.engine": {"level": "INFO" if debug else "WARNING"},
        },
    }
