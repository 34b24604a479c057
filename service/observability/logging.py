"""Logs: lines on standard error, which nobody has to read; JSON, or text on a terminal."""

import logging
import os
import select
import sys
import threading
from collections import deque
from typing import Any

from service.observability.log_lines import JSONLines, RequestFields, TextLines

# What waits for a reader; beyond, lines are dropped, and counted.
QUEUED_BYTES_MAX = 2**20
# How long the end of a process waits for a reader.
FLUSH_S = 0.5


class StandardError(logging.Handler):
    """Writes lines to standard error, in a thread: a pipe that nobody reads would stop all that logs.

    Lines are written whole as long as they are no longer than a pipe takes at once (PIPE_BUF), as the service's other
    processes write to the same one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._stream = sys.stderr
        try:
            self._file: int | None = sys.stderr.fileno()
        except (AttributeError, OSError):  # it is closed, or kept in memory by a test
            self._file = None
        self._reset()

    def _reset(self) -> None:
        """Begin with an empty queue, without a thread: a process that is forked has none, and locks of another's."""
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._bytes = 0  # of lines that are not written yet
        self._dropped = 0  # lines, since a line said how many
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line of a record, or drop it if the queue is full."""
        try:
            line = self.format(record).encode(errors="replace") + b"\n"
        except Exception:  # noqa: BLE001 - as any handler does
            self.handleError(record)
            return
        if self._file is None:
            if self._stream is not None:
                self._stream.write(line.decode())
            return
        if self._pid != os.getpid():
            self._reset()
        with self._changed:
            if self._bytes + len(line) > QUEUED_BYTES_MAX:
                self._dropped += 1
                return
            self._lines.append(line)
            self._bytes += len(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, args=(self._file,), name="log", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until everything is written, for at most FLUSH_S."""
        if self._pid == os.getpid():
            with self._changed:
                self._changed.wait_for(lambda: not self._bytes, FLUSH_S)

    def close(self) -> None:
        """End the thread once everything is written."""
        if self._pid == os.getpid():
            with self._changed:
                self._is_closed = True
                self._changed.notify_all()
        super().close()

    def _write(self, file: int) -> None:
        """Write what is queued, in the thread: as many whole lines at once as a pipe takes at once."""
        changed = self._changed
        while True:
            with changed:
                changed.wait_for(lambda: self._lines or self._is_closed)
                if not self._lines:
                    return
                dropped, self._dropped = self._dropped, 0
                lines = [self._lines.popleft()]
                size = len(lines[0])
                while self._lines and size + len(self._lines[0]) <= select.PIPE_BUF:
                    size += len(self._lines[0])
                    lines.append(self._lines.popleft())
            texts = [self._dropped_line(dropped)] * bool(dropped) + [b"".join(lines)]
            is_written = all(write_all(file, text) for text in texts)
            with changed:
                self._bytes -= size
                if not is_written:
                    self._dropped += dropped + len(lines)
                changed.notify_all()

    def _dropped_line(self, count: int) -> bytes:
        """Return the line that says how many were dropped lately."""
        fields = {"levelno": logging.WARNING, "levelname": "WARNING", "name": __name__}
        record = logging.makeLogRecord({**fields, "msg": "log lines dropped, as nobody read them", "dropped": count})
        return self.format(record).encode() + b"\n"


def write_all(file: int, text: bytes) -> bool:
    """Write all of a text to a file descriptor, and return whether that was possible."""
    while text:
        try:
            text = text[os.write(file, text) :]
        except BlockingIOError:  # another process has made the shared file so
            select.select([], [file], [])
        except OSError:  # a full disk, or a pipe whose reader is gone
            return False
    return True


def log_settings(*, debug: bool, level: str = "info", log_format: str = "auto") -> dict[str, Any]:
    """Return the configuration of logging in every process, for logging.config: lines from a level on.

    The format is json, text, or auto: text if standard error is a terminal.
    """
    is_text = log_format == "text" or (log_format == "auto" and is_terminal())
    handler = {"()": StandardError, "formatter": "lines", "filters": ["request"]}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": {"()": TextLines if is_text else JSONLines}},
        "filters": {"request": {"()": RequestFields}},
        "handlers": {"stderr": handler},
        "root": {"level": level.upper(), "handlers": ["stderr"]},
        "loggers": {
            "alembic": {"level": "WARNING"},
            "opentelemetry": {"level": "WARNING"},
            "sqlalchemy.engine": {"level": "INFO" if debug else "WARNING"},
            "db.engines.database": {"level": "INFO" if debug else "NOTSET"},  # which logs the SQL of batchers
            "db.engines.pooled_connections": {"level": "WARNING"},  # where SQLAlchemy's pool logs, for a class of it
        },
    }


def is_terminal() -> bool:
    """Return whether standard error is a terminal."""
    return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()
