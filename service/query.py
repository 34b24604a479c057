"""Query strings: a Struct in the address."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, TypeVar, get_type_hints
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct, inspect

from service.problems import INVALID_QUERY, Fault, ProblemError

Q = TypeVar("Q", bound=Struct)

PARAMETERS_MAX = 32
# Callers repeat themselves: the same first page, the same filter. Long strings are sets of ids, each different.
REMEMBERED_MAX = 1024
REMEMBERED_BYTES_MAX = 256
SWITCH = {"true": True, "false": False}


class NoParameters(Struct, frozen=True):
    """The query of an operation that has none."""


class QueryDecoder(Generic[Q]):
    """Decodes one Struct; every field is a parameter, a tuple is written with commas."""

    def __init__(self, kind: type[Q]) -> None:
        self._kind = kind
        shapes = inspect.type_info(kind)
        assert isinstance(shapes, inspect.StructType)  # noqa: S101 - narrows the type
        hints = get_type_hints(kind, include_extras=True)
        self._readers = {field.name: _reader(hints[field.name], field.type) for field in shapes.fields}
        self._required = [field.name for field in shapes.fields if field.required]
        self._remembered = lru_cache(REMEMBERED_MAX)(self._decode)

    def decode(self, raw: bytes) -> Q:
        """Decode a query string. Raises a 400 that names every parameter at fault."""
        return self._remembered(raw) if len(raw) <= REMEMBERED_BYTES_MAX else self._decode(raw)

    def _decode(self, raw: bytes) -> Q:
        given: set[str] = set()
        values: dict[str, Any] = {}
        faults: list[Fault] = []
        for name, text in _pairs(raw):
            try:
                if name not in self._readers:
                    raise msgspec.ValidationError("Unknown parameter")  # noqa: TRY301 - collected with the others
                if name in given:
                    raise msgspec.ValidationError("Given more than once")  # noqa: TRY301
                given.add(name)
                values[name] = self._readers[name](text)
            except msgspec.ValidationError as error:
                faults.append(Fault(f"/{name[:255]}", str(error).partition(" - at `")[0]))
        faults += [Fault(f"/{name}", "Missing") for name in self._required if name not in given]
        if faults:
            told = "; ".join(f"{fault.pointer[1:]}: {fault.detail}" for fault in faults[:3])
            raise ProblemError(INVALID_QUERY, f"{told}.", faults=faults)
        return self._kind(**values)


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=PARAMETERS_MAX)
    except ValueError as error:
        detail = "It is not UTF-8." if isinstance(error, UnicodeDecodeError) else f"{error}."
        raise ProblemError(INVALID_QUERY, detail) from None


def unwrapped(shape: inspect.Type) -> inspect.Type:
    """Give what a type is without what the document says of it."""
    while isinstance(shape, inspect.Metadata):
        shape = shape.type
    return shape


def _reader(kind: Any, shape: inspect.Type) -> Callable[[str], Any]:
    """Choose how a parameter's text is read: msgspec's lax mode, without its other spellings of a boolean."""
    shape = unwrapped(shape)
    if isinstance(shape, inspect.BoolType):
        return lambda text: msgspec.convert(SWITCH.get(text, text), kind)
    if isinstance(shape, inspect.VarTupleType):
        return lambda text: _each_once(msgspec.convert(text.split(","), kind, strict=False))
    return lambda text: msgspec.convert(text, kind, strict=False)


def _each_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise msgspec.ValidationError("Expected each value once")
    return values
