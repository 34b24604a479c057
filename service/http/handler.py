"""A handler of requests: a function, with the types of its signature and the names that the document has for it."""

from collections.abc import Awaitable, Callable, Mapping
from inspect import getdoc
from typing import Any, NamedTuple, Self, TypeVar, get_type_hints


class Handler(NamedTuple):
    """A handler, the types of its parameters and of what it returns, and how the document calls it."""

    run: Callable[..., Awaitable[Any]]
    hints: dict[str, Any]
    name: str
    summary: str
    tag: str

    @classmethod
    def of(cls, run: Callable[..., Awaitable[Any]]) -> Self:
        """Return a handler with its name, its docstring's first line as the summary, and its module as the tag."""
        summary = (getdoc(run) or "").partition("\n")[0]
        return cls(run, get_type_hints(run, include_extras=True), run.__name__, summary, run.__module__.split(".")[-1])

    def applied(self, noun: str, name: str, types: Mapping[str, Any]) -> Self:
        """Return the handler with the names of one resource, and with types in the place of its type variables."""
        hints = {key: _applied(hint, types) for key, hint in self.hints.items()}
        one = f"{self.name.partition('_')[0]}_{noun if self.name.endswith('_one') else name}"
        return type(self)(self.run, hints, one, self.summary.format(noun=noun, name=name), name)


def _applied(hint: Any, types: Mapping[str, Any]) -> Any:
    """Return a type with types in the place of its variables."""
    if isinstance(hint, TypeVar):
        return types[hint.__name__]
    variables = getattr(hint, "__parameters__", ())
    return hint[tuple(types[variable.__name__] for variable in variables)] if variables else hint
