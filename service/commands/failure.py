"""How a command says that it failed."""

import sys
from collections.abc import Sequence

CANNOT_START = "The service cannot start"
NOT_READY = "The service cannot become ready"


def fail(what: str, errors: Sequence[str]) -> int:
    """Print errors, and return the exit code 1."""
    print(f"{what}:", *(f"- {error}" for error in errors), sep="\n", file=sys.stderr)
    return 1
