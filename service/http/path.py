"""The parameters of paths."""

from collections.abc import Callable
from typing import Any

from service.http.problems import NO_SUCH_PATH, ProblemError


def path_parameter(text: str, read: Callable[[str], Any]) -> Any:
    """Return the value of a path parameter. Raises a 404: there is nothing at a path that cannot be read."""
    try:
        value = read(text)
        if str(value) == text:  # each resource has one path: not 007, not 7.0
            return value
    except ValueError:  # msgspec's errors, and text that is no UTF-8
        pass
    raise ProblemError(NO_SUCH_PATH, "There is nothing at this path.")
