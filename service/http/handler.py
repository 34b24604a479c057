"""A handler of requests: a function, with the types of its signature and the names that the document has for it."""

import sys
from collections.abc import Awaitable, Callable, Mapping
from inspect import getdoc
from typing import Any, NamedTuple, Self, TypeVar, get_type_hints


class Tag(NamedTuple):
    """What the document calls a resource, and says of it."""

    name: str
    description: str


class Handler(NamedTuple):
    """A handler, the types of its parameters and of what it returns, and what the document says of it."""

    run: Callable[..., Awaitable[Any]]
    hints: dict[str, Any]
    name: str
    summary: str
    description: str
    tag: Tag

    @classmethod
    def of(cls, run: Callable[..., Awaitable[Any]]) -> Self:
        """Return a handler with its name; its docstring has its summary and its description, its module is the tag."""
        summary, _, rest = (getdoc(run) or "").partition("\n")
        hints = get_type_hints(run, include_extras=True)
        return cls(run, hints, run.__name__, summary, paragraphs(rest), tag_of(run.__module__))

    def applied(self, noun: str, name: str, types: Mapping[str, Any]) -> Self:
        """Return the handler with the names of one resource, and with types in the place of its type variables."""
        hints = {key: _applied(hint, types) for key, hint in self.hints.items()}
        one = f"{self.name.partition('_')[0]}_{noun if self.name.endswith('_one') else name}"
        summary, description = (text.format(noun=noun, name=name) for text in (self.summary, self.description))
        return type(self)(
            self.run, hints, one, summary, description, Tag(name, tag_of(types["R"].__module__).description)
        )


def tag_of(module: str) -> Tag:
    """Return the tag of a module of handlers: its name, and the first line of its docstring."""
    return Tag(module.rpartition(".")[2], (getdoc(sys.modules[module]) or "").partition("\n")[0])


def paragraphs(text: str) -> str:
    """Return a text with each of its paragraphs on one line, as its line breaks are those of the source."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


def _applied(hint: Any, types: Mapping[str, Any]) -> Any:
    """Return a type with types in the place of its variables."""
    if isinstance(hint, TypeVar):
        return types[hint.__name__]
    variables = getattr(hint, "__parameters__", ())
    return hint[tuple(types[variable.__name__] for variable in variables)] if variables else hint
