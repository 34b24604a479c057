"""python -m service: signals are heard from the first moment, before the command line is even imported."""

import errno
import os
import signal
import sys

from service.signals import exit_at_signals


def main() -> int:
    """Run the command line, and return its exit code: 141 if what reads the output does not want all of it."""
    exit_at_signals(serves=sys.argv[1:2] == ["serve"])
    from service.command_line import main as run  # noqa: PLC0415 - it takes a second, in which a signal may come

    try:
        try:
            return run()
        finally:
            if sys.stdout is not None:  # it is closed
                sys.stdout.flush()
    except OSError as error:
        if error.errno not in {errno.EPIPE, errno.ENOSPC}:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what the interpreter flushes at its end
        if error.errno == errno.EPIPE:
            return 128 + signal.SIGPIPE
        print("The output cannot be written:", f"- {error.strerror}", sep="\n", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
