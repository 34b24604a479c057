"""Query strings: a Struct in the address."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, TypeVar, get_type_hints
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Struct, inspect

from service.http.problems import INVALID_QUERY, FieldError, ProblemError

Q = TypeVar("Q", bound=Struct)

PARAMETERS_MAX = 32
# Each costs up to 0.4 µs of the event loop, and there is room for 60,000. A name prefix has 1020 at most, 4 for each of
# 255 characters, and a batch of 1000 ids 999 commas.
ESCAPES_MAX = 2048
# Of what a problem repeats: a whole address would make it as large.
REPEATED_CHARACTERS_MAX = 255
# Callers repeat themselves: the same first page, the same filter. Long strings are batches of ids, each different.
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
        faults: list[FieldError] = []
        for name, text in _pairs(raw):
            try:
                if name not in self._readers:
                    raise msgspec.ValidationError("Unknown parameter")  # noqa: TRY301 - collected with the others
                if name in given:
                    raise msgspec.ValidationError("Given more than once")  # noqa: TRY301
                given.add(name)
                values[name] = self._readers[name](text)
            except msgspec.ValidationError as error:
                detail = str(error).partition(" - at `")[0]
                faults.append(FieldError(f"/{name[:REPEATED_CHARACTERS_MAX]}", detail[:REPEATED_CHARACTERS_MAX]))
        faults += [FieldError(f"/{name}", "Missing") for name in self._required if name not in given]
        if faults:
            told = "; ".join(f"{fault.pointer[1:]}: {fault.detail}" for fault in faults[:3])
            raise ProblemError(INVALID_QUERY, f"{told}.", faults=faults)
        return self._kind(**values)


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    """Split a query string into names and values. Raises a 400."""
    if raw.count(b"&") >= PARAMETERS_MAX:
        raise ProblemError(INVALID_QUERY, f"It may have {PARAMETERS_MAX} parameters at most.")
    if raw.count(b"%") > ESCAPES_MAX:
        raise ProblemError(INVALID_QUERY, f"It may have {ESCAPES_MAX} escapes at most.")
    # As parse_qsl does, but it takes up to five times as long for an escape that stands beside what is not ASCII.
    parts = (part.partition(b"=") for part in raw.replace(b"+", b" ").split(b"&") if part)
    try:
        return [(unquote_to_bytes(name).decode(), unquote_to_bytes(value).decode()) for name, _, value in parts]
    except UnicodeDecodeError:
        raise ProblemError(INVALID_QUERY, "It is not UTF-8.") from None


def unwrapped(shape: inspect.Type) -> inspect.Type:
    """Return what a type is without what the document says of it."""
    while isinstance(shape, inspect.Metadata):
        shape = shape.type
    return shape


def _reader(kind: Any, shape: inspect.Type) -> Callable[[str], Any]:
    """Choose how a parameter's text is read: msgspec's lax mode, without its other spellings of a boolean."""
    shape = unwrapped(shape)
    if isinstance(shape, inspect.BoolType):
        return lambda text: msgspec.convert(SWITCH.get(text, text), kind)
    if isinstance(shape, inspect.VarTupleType):
        splits_max = shape.max_length or -1  # one part more than that is refused for its length
        return lambda text: _each_once(msgspec.convert(text.split(",", splits_max), kind, strict=False))
    return lambda text: msgspec.convert(text, kind, strict=False)


def _each_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise msgspec.ValidationError("Expected each value once")
    return values
