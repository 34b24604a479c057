"""File descriptors: how many connections of clients a worker can accept, when the database's come first."""

import logging
import resource

log = logging.getLogger(__name__)

# Granian counts idle connections, too.
CONNECTIONS_MAX = 8192
# What a connection to the database takes: three files with SQLite, one with PostgreSQL and one to cancel a statement.
DATABASE_CONNECTION_FILES = 3
# Sockets, pipes, event loops, logs, and what libraries open for a moment.
OTHER_FILES = 64
CONNECTIONS_MIN = 16
# What the parent process has of each worker: its listening socket, a pipe to it, and two by which its end is noticed.
WORKER_FILES = 4


class TooFewFiles(Exception):
    """The process may not open as many files as a worker needs."""


def connections_max(database_connections: int, workers: int, connection_files: int = 1) -> int:
    """Return how many connections of clients a worker may accept, once it may open as many files as the system allows.

    Beyond, connections wait to be accepted; each takes `connection_files`. Raises TooFewFiles.
    """
    reserved = DATABASE_CONNECTION_FILES * database_connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited, wanted = resource.RLIM_INFINITY, CONNECTIONS_MAX * connection_files + reserved
    if soft not in {unlimited, hard} and soft < wanted:
        soft = wanted if hard == unlimited else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == unlimited or soft >= wanted:
        return CONNECTIONS_MAX
    if soft < (needed := reserved + CONNECTIONS_MIN * connection_files):
        raise TooFewFiles(f"a process may open {soft} files; a worker needs {needed} (ulimit -n)")
    if soft < (needed := WORKER_FILES * workers + OTHER_FILES):
        raise TooFewFiles(f"a process may open {soft} files; {workers} workers need {needed} (ulimit -n)")
    log.warning(
        "A worker accepts at most %d connections, as a process may open %d files (ulimit -n), of which %d are kept for "
        "the database and the rest; %d would be enough",
        (soft - reserved) // connection_files,
        soft,
        reserved,
        wanted,
    )
    return (soft - reserved) // connection_files
