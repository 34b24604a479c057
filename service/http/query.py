"""Query strings, decoded into a Struct."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, TypeVar, get_origin
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import fields

from service.http.messages import plain_message
from service.http.problems import INVALID_QUERY, FieldError, ProblemError
from service.http.validation import choices, type_parts

Q = TypeVar("Q", bound=Struct)

PARAMETERS_MAX = 32
# Each costs up to 0.4 µs of the event loop, and there is room for 60,000. A name prefix has 1020 at most, 4 for each of
# 255 characters, and a batch of 1000 ids 999 commas.
ESCAPES_MAX = 2048
# Of a name or value that a problem repeats: a whole query string would make the problem as large.
REPEATED_CHARACTERS_MAX = 255
# Clients repeat themselves: the same first page, the same filter. Long query strings are lists of ids, each different.
CACHED_MAX = 1024
CACHED_BYTES_MAX = 256
encode = msgspec.json.encode
SWITCH = {"true": True, "false": False}


class NoParameters(Struct, frozen=True):
    """The query of an operation without parameters."""


class QueryDecoder(Generic[Q]):
    """Decodes query strings into one Struct: each field is a parameter.

    A tuple is written with commas, as in `ids=1,2`, or as a parameter that is repeated, as in `ids=1&ids=2`.
    """

    def __init__(self, kind: type[Q]) -> None:
        self._kind = kind
        lengths = {field.name: tuple_length_max(field.type) for field in fields(kind)}
        self._lists = {name for name, length_max in lengths.items() if length_max}
        self._parameters_max = PARAMETERS_MAX + sum(lengths.values())
        self._readers = {field.name: _reader(field.type) for field in fields(kind)}
        self._choices = {field.name: choices(field.type) for field in fields(kind)}
        self._required = [field.name for field in fields(kind) if field.required]
        self._decode_cached = lru_cache(CACHED_MAX)(self._decode)

    def decode(self, raw: bytes) -> Q:
        """Return the Struct of a query string. Raises a 400 with an error for each wrong parameter."""
        return self._decode_cached(raw) if len(raw) <= CACHED_BYTES_MAX else self._decode(raw)

    def _decode(self, raw: bytes) -> Q:
        given: set[str] = set()
        values: dict[str, Any] = {}
        errors: list[FieldError] = []
        for name, text in self._joined(_pairs(raw, self._parameters_max)):
            try:
                if name not in self._readers:
                    raise msgspec.ValidationError("Unknown parameter")  # noqa: TRY301 - collected with the others
                if name in given:
                    raise msgspec.ValidationError("Given more than once")  # noqa: TRY301
                given.add(name)
                values[name] = self._readers[name](text)
            except msgspec.ValidationError as invalid:
                # In a query string everything is a string.
                detail = plain_message(invalid, self._choices.get(name, ())).removesuffix(", got a string")
                errors.append(FieldError(f"/{name[:REPEATED_CHARACTERS_MAX]}", detail[:REPEATED_CHARACTERS_MAX]))
        errors += [FieldError(f"/{name}", "Missing") for name in self._required if name not in given]
        if errors:
            detail = "; ".join(f"{error.pointer[1:]}: {error.detail}" for error in errors[:3])
            raise ProblemError(INVALID_QUERY, f"{detail}.", errors=errors)
        return self._kind(**values)

    def _joined(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return names and values, those of each list in one. Raises a 400."""
        lists: dict[str, list[str]] = {}
        others = []
        for name, text in pairs:
            if name in self._lists:
                lists.setdefault(name, []).append(text)
            else:
                others.append((name, text))
        if len(others) > PARAMETERS_MAX:
            raise _too_many()
        return [*((name, ",".join(texts)) for name, texts in lists.items()), *others]


def _too_many() -> ProblemError:
    return ProblemError(INVALID_QUERY, f"It may have {PARAMETERS_MAX} parameters at most.")


def _pairs(raw: bytes, parameters_max: int) -> list[tuple[str, str]]:
    """Return the names and values of a query string. Raises a 400."""
    if raw.count(b"&") >= parameters_max:
        raise _too_many()
    if raw.count(b"%") > ESCAPES_MAX:
        raise ProblemError(INVALID_QUERY, f"It may have {ESCAPES_MAX} escapes at most.")
    # As parse_qsl does, but it takes up to five times as long for an escape that stands beside what is not ASCII.
    parts = (part.partition(b"=") for part in raw.replace(b"+", b" ").split(b"&") if part)
    unquote = unquote_to_bytes if b"%" in raw else bytes
    try:
        return [(unquote(name).decode(), unquote(value).decode()) for name, _, value in parts]
    except UnicodeDecodeError:
        raise ProblemError(INVALID_QUERY, "It is not UTF-8.") from None


def _reader(kind: Any) -> Callable[[str], Any]:
    """Return the reader of a parameter's text: msgspec's lax mode, without its other spellings of a boolean.

    A JSON string is read as msgspec.convert reads a text, in a tenth of the time: convert builds the type at each call.
    """
    parts = list(type_parts(kind))
    strict, lax = (msgspec.json.Decoder(kind, strict=is_strict).decode for is_strict in (True, False))
    if bool in parts:
        return lambda text: strict(encode(SWITCH.get(text, text)))
    splits_max = tuple_length_max(kind)
    if splits_max:  # with one part more, the length is refused
        return lambda text: _without_repeats(
            (strict if _has_fraction(text) else lax)(encode(text.split(",", splits_max)))
        )
    if int in parts:
        return lambda text: (strict if _has_fraction(text) else lax)(encode(text))
    return lambda text: lax(encode(text))


def tuple_length_max(kind: Any) -> int:
    """Return how many values a parameter may have that is a tuple; 0 for any other type."""
    parts = list(type_parts(kind))
    lengths = (part.max_length or 0 for part in parts if isinstance(part, Meta))
    return max(lengths) if any(get_origin(part) is tuple for part in parts) else 0


def _has_fraction(text: str) -> bool:
    """Return whether a text may be like 1.0 or 1e0, which lax mode reads as an integer, and no body may have."""
    return "." in text or "e" in text or "E" in text


def _without_repeats(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise msgspec.ValidationError("Expected each value once")
    return values
