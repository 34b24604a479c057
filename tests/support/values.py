"""Values for the fields of Structs, made from their schemas' examples and found valid for their types."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, get_args, get_type_hints

import msgspec
from msgspec import Struct

from service.openapi.schemas import Schema, Schemas

FIRST = "2026-01-31T12:00:00Z"
WRONG: list[Any] = [[], {}, None]
LETTERS = str.maketrans("0123456789", "abcdefghij")


class Fields:
    """The fields of a Struct: the first one in a type, such as that of a union or of a list's members."""

    def __init__(self, kind: Any) -> None:
        found = list(structs(kind))[:1]
        self.kinds = {name: hint for each in found for name, hint in get_type_hints(each, include_extras=True).items()}
        self.schemas: dict[str, Schema] = {}
        self.required: list[str] = []
        for each in found:
            form = Schemas().forms(each)[0]
            self.schemas |= form["properties"]
            self.required += form.get("required", [])

    def accepts(self, name: str, value: Any) -> bool:
        """Return whether a value is valid for a field."""
        with suppress(msgspec.ValidationError):
            msgspec.convert(value, self.kinds[name])
            return True
        return False

    def value(self, name: str, number: int) -> Any:
        """Return a field's value, another one for each number as far as its type has so many."""
        valid = (value for value in varied(self.schemas[name], number) if self.accepts(name, value))
        value = next(valid, msgspec.UNSET)
        assert value is not msgspec.UNSET, f"no value is known for {name}: give it an example; {self.schemas[name]}"
        return msgspec.to_builtins(msgspec.convert(value, self.kinds[name]))  # as the service writes it

    def wrong(self, name: str) -> Any:
        """Return a value that a field's type refuses."""
        return next(value for value in WRONG if not self.accepts(name, value))


def structs(kind: Any) -> Iterator[type[Struct]]:
    """Yield the Structs of a type, such as those of a union or of a list's members."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        yield kind
    for part in get_args(kind):
        yield from structs(part)


def varied(schema: Schema, number: int) -> Iterator[Any]:
    """Yield values for a schema that vary with a number: its examples, changed, so that some may not be valid."""
    examples = [value for value in schema.get("examples", []) if value is not None]
    for form in schema.get("anyOf", []):
        yield from varied({**form, "examples": examples + form.get("examples", [])}, number)
    kind = schema.get("type")
    if "enum" in schema:
        yield schema["enum"][number % len(schema["enum"])]
    elif kind == "boolean":
        yield number % 2 == 0
    elif kind in {"integer", "number"}:
        low, high = schema.get("minimum", 0), schema.get("maximum", float("inf"))
        yield from (start + number for start in (*examples, low))
        yield low + number % max(1, high - low)
    elif schema.get("format") == "date-time":
        yield (datetime.fromisoformat((*examples, FIRST)[0]) + timedelta(minutes=number)).isoformat()
    elif kind == "string":
        for text in examples or ["x" * schema.get("minLength", 1)]:
            yield from varied_text(text, f"{number:04}")
    elif kind == "array":
        yield from ([value] for value in varied(schema["items"], number))


def varied_text(text: str, digits: str) -> Iterator[str]:
    """Yield a text with a number behind it, before it, or in place of one of its ends, in digits and in letters.

    Where there is no room for so many, the last ones alone.
    """
    for mark in (part for end in (digits, digits[-2:], digits[-1:]) for part in (end, end.translate(LETTERS))):
        yield from (text + mark, mark + text, text[: -len(mark)] + mark, mark + text[len(mark) :])
