"""Decoding bodies, with every error of one that is refused: a decoder stops at the first of them."""

import re
from collections.abc import Iterator
from functools import cache
from itertools import chain, islice
from math import inf
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields

from service.http.body_values import UNCHECKED_BYTES_MAX, Size
from service.http.media_types import JSON, MEDIA_TYPES, MediaType
from service.http.messages import plain_message
from service.http.problems import INVALID_BODY, MALFORMED_BODY, FieldError, ProblemError

ERRORS_MAX = 100
SECOND_PASS_BYTES_MAX = 1_048_576  # of JSON, which is decoded again for the errors after the first
POINTER_CHARACTERS_MAX = 255  # of the name of a field
FORM = "It does not have the form that is expected."
STEP = re.compile(r"\[(\d+)\]|\.(\w+)")
FIELD = re.compile(r"unknown field `(.*)`", re.DOTALL)
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class BodyDecoder:
    """Decodes bodies in either media type into a type."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._size = _size(kind)
        self._decoders = {media_type: media_type.decoder(kind) for media_type in MEDIA_TYPES}

    def decode(self, media_type: MediaType, body: bytes) -> Any:
        """Return the value of a body. Raises a 422 with an error for each wrong field, at most 100, and a 400."""
        if len(body) > UNCHECKED_BYTES_MAX and self._size.is_exceeded(media_type, body):
            raise ProblemError(INVALID_BODY, FORM, [self._first_error(media_type, body[:UNCHECKED_BYTES_MAX])])
        try:
            return self._decoders[media_type].decode(body)
        except msgspec.ValidationError as error:
            errors = self.field_errors(media_type, body) or [from_exception(error)]
            raise ProblemError(INVALID_BODY, FORM, errors) from None
        except UNDECODABLE as error:
            raise ProblemError(MALFORMED_BODY, f"{_why(error, media_type, body)}.") from None

    def _first_error(self, media_type: MediaType, beginning: bytes) -> FieldError:
        """Return the first error of a body with too many values: that of its beginning, or that they are too many."""
        try:
            self._decoders[media_type].decode(beginning)
        except msgspec.ValidationError as error:
            return from_exception(error)
        except UNDECODABLE:  # it ends too early
            pass
        return FieldError("", f"Too many values: {self._size}")

    def field_errors(self, media_type: MediaType, body: bytes) -> list[FieldError]:
        """Return the errors of a body's fields, as far as it can be decoded; none if that may take long."""
        # What is unknown in MessagePack may have as many values as bytes.
        if len(body) > (UNCHECKED_BYTES_MAX if media_type.name == "msgpack" else SECOND_PASS_BYTES_MAX):
            return []
        try:
            return list(islice(_errors(self._kind, media_type.decoder(Any).decode(body), ""), ERRORS_MAX))
        except UNDECODABLE:
            return []


def _why(error: Exception, media_type: MediaType, body: bytes) -> str:
    """Return why a body cannot be decoded."""
    if not (body.strip() if media_type is JSON else body):
        return "It is empty"
    if isinstance(error, RecursionError):
        return "It is nested too deeply"
    return "It is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def from_exception(error: msgspec.ValidationError) -> FieldError:
    """Return the error that msgspec raised; its message ends like "at `$[0].name`" or "at `key` in `$[0]`"."""
    detail, _, path = str(error).partition(" - at `")
    pointer = "".join(f"/{index or name}" for index, name in STEP.findall(path))
    field = FIELD.search(detail)
    return (
        FieldError(pointer + _step(field[1]), "Unknown field") if field else FieldError(pointer, plain_message(error))
    )


def union_members(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union, or a type that is none as its only one."""
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return get_args(bare) if get_origin(bare) in {UnionType, Union} else (kind,)


def type_parts(kind: Any) -> Iterator[Any]:
    """Yield a type, and all that it is made of: the members of a union, the elements of a list, metadata."""
    yield kind
    for part in get_args(kind):
        yield from type_parts(part)


def choices(kind: Any) -> list[object]:
    """Return the values of the enumerations in a type."""
    return [value for part in type_parts(kind) if get_origin(part) is Literal for value in get_args(part)]


def struct_fields(kind: Any) -> dict[str, FieldInfo]:
    """Return the fields of all Structs that a type is made of, by name."""
    return {field.encode_name: field for part in type_parts(kind) if _is_struct(part) for field in fields(part)}


def _size(kind: Any) -> Size:
    """Return the size of the largest body of a type."""
    structs = [part for part in type_parts(kind) if _is_struct(part)]
    lengths = [part.max_length for part in type_parts(kind) if isinstance(part, msgspec.Meta) and part.max_length]
    if not structs or any(
        _is_struct(part) for one in structs for field in fields(one) for part in type_parts(field.type)
    ):
        return Size()  # what is nested is not counted
    is_batch = any(get_origin(part) is list for part in type_parts(kind))
    return Size(max(lengths, default=inf) if is_batch else 1, max(len(fields(one)) for one in structs))


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _errors(kind: Any, value: Any, pointer: str) -> Iterator[FieldError]:
    for member in union_members(kind):
        bare, *metas = get_args(member) if get_origin(member) is Annotated else (member,)
        if isinstance(value, dict) and _is_struct(bare):
            yield from _struct_errors(bare, value, pointer)
            return
        if isinstance(value, list) and get_origin(bare) is list:
            yield from _list_errors(get_args(bare)[0], metas, value, pointer)
            return
    yield from _value_errors(kind, value, pointer)


def _struct_errors(kind: type[msgspec.Struct], value: dict[Any, Any], pointer: str) -> Iterator[FieldError]:
    known = struct_fields(kind)
    for name, field in known.items():
        if name in value:
            yield from _errors(field.type, value[name], f"{pointer}/{name}")
        elif field.required:
            yield FieldError(f"{pointer}/{name}", "Missing")
    for name in value:
        if name not in known:
            detail = "Unknown field" if isinstance(name, str) else "Expected a string as the name of a field"
            yield FieldError(pointer + _step(_text(name)), detail)


def _text(name: Any) -> str:
    """Return the name of a field, which is a string, as text; in MessagePack it may be anything."""
    if isinstance(name, str):
        return name
    if isinstance(name, bytes):
        return name.decode(errors="replace")
    return msgspec.json.encode(name, enc_hook=lambda _: None).decode()  # an extension type is not JSON


def _step(name: str) -> str:
    return f"/{name[:POINTER_CHARACTERS_MAX].replace('~', '~0').replace('/', '~1')[:POINTER_CHARACTERS_MAX]}"


def _list_errors(element: Any, metas: list[Any], value: list[Any], pointer: str) -> Iterator[FieldError]:
    length_errors = list(_value_errors(Annotated[(list[Any], *metas)] if metas else Any, value, pointer))
    wrong = ((index, member) for index, member in enumerate(value) if any(_value_errors(element, member, "")))
    member_errors = (_errors(element, member, f"{pointer}/{index}") for index, member in wrong)
    yield from length_errors or chain.from_iterable(member_errors)


@cache
def _holder(kind: Any) -> type[msgspec.Struct]:
    """Return a Struct with a value of a type: its decoder is kept, while one of the type is made anew each time."""
    return msgspec.defstruct("Holder", [("value", kind)])


def _value_errors(kind: Any, value: Any, pointer: str) -> Iterator[FieldError]:
    try:
        msgspec.convert({"value": value}, _holder(kind))
    except msgspec.ValidationError as error:
        yield FieldError(pointer, plain_message(error, choices(kind)))
