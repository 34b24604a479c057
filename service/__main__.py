"""python -m service: signals are heard from the first moment, before the command line is even imported."""

import errno
import gc
import os
import signal
import sys

from service.signals import exit_at_signals


def main() -> int:
    """Run the command line, and return its exit code: 141 if what reads the output does not want all of it."""
    exit_at_signals(serves=sys.argv[1:2] == ["serve"])
    # What is imported stays: to look for garbage among it takes 50 ms. And a worker that is forked shares it with its
    # parent until one of them writes to it, which the collector does to all that it looks at: 17 MiB for each worker.
    gc.disable()
    from service.command_line import main as run  # noqa: PLC0415 - it takes half a second, in which a signal may come

    gc.freeze()
    gc.enable()
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
