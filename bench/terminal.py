"""What the commands of the benchmark show, and how they end."""

import signal
from collections.abc import Callable
from typing import Never

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench.processes import ProcessError
from bench.responses import WrongResponseError

FAILED, INTERRUPTED = 1, 130


class NobodyAnswersError(Exception):
    """None of the contestants that were named takes part on the databases, or serves the workloads, that were named."""

    def __str__(self) -> str:
        """Return that, and where to look."""
        return (
            "Nobody is left to ask: none of these contestants takes part on these databases and serves what is asked; "
            "`service` does."
        )


def run_command(work: Callable[[Console], None]) -> int:
    """Do the work of a command, and return its exit code; everything that was started ends with it."""
    console = Console(stderr=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        work(console)
    except (ProcessError, WrongResponseError, NobodyAnswersError) as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return FAILED
    except KeyboardInterrupt:
        console.print("stopped; everything that was started has ended")
        return INTERRUPTED
    return 0


def progress_bar(console: Console) -> Progress:
    """Make the bar that shows what is going on."""
    figures = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*figures, TextColumn("{task.description}"), console=console)


def _interrupt(_number: int, _frame: object) -> Never:
    # Once is enough: what follows is the clean-up, which has its own bounds.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
