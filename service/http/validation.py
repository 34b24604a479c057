"""All errors of a value that was refused: a decoder stops at the first, and a client wants every one."""

import re
from collections.abc import Iterator
from itertools import islice
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from msgspec.structs import fields

from service.http.problems import FieldError

ERRORS_MAX = 100
STEP = re.compile(r"\[(\d+)\]|\.(\w+)")
FIELD = re.compile(r"unknown field `(.*)`", re.DOTALL)


def find_errors(kind: Any, value: Any, error: msgspec.ValidationError) -> list[FieldError]:
    """Return the errors of a plain value against a type, at most 100; without any, the one that was raised."""
    return list(islice(_errors(kind, value, ""), ERRORS_MAX)) or [from_exception(error)]


def from_exception(error: msgspec.ValidationError) -> FieldError:
    """Return the error that msgspec raised; its message ends like "at `$[0].name`" or "at `key` in `$[0]`"."""
    detail, _, path = str(error).partition(" - at `")
    pointer = "".join(f"/{index or name}" for index, name in STEP.findall(path))
    field = FIELD.search(detail)
    return FieldError(pointer + _step(field[1]) if field else pointer, detail)


def _errors(kind: Any, value: Any, pointer: str) -> Iterator[FieldError]:
    for member in _union_members(kind):
        bare, *metas = get_args(member) if get_origin(member) is Annotated else (member,)
        if isinstance(value, dict) and isinstance(bare, type) and issubclass(bare, msgspec.Struct):
            yield from _struct_errors(bare, value, pointer)
            return
        if isinstance(value, list) and get_origin(bare) is list:
            yield from _list_errors(get_args(bare)[0], metas, value, pointer)
            return
    yield from _value_errors(kind, value, pointer)


def _union_members(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union, or a type that is none as its only one."""
    return get_args(kind) if get_origin(kind) in {UnionType, Union} else (kind,)


def _struct_errors(kind: type[msgspec.Struct], value: dict[Any, Any], pointer: str) -> Iterator[FieldError]:
    known = {field.encode_name: field for field in fields(kind)}
    for name, field in known.items():
        if name in value:
            yield from _errors(field.type, value[name], f"{pointer}/{name}")
        elif field.required:
            yield FieldError(f"{pointer}/{name}", "Missing")
    for name in value:
        if name not in known:
            yield FieldError(pointer + _step(str(name)), "Unknown field")


def _step(name: str) -> str:
    return f"/{name.replace('~', '~0').replace('/', '~1')[:255]}"


def _list_errors(element: Any, metas: list[Any], value: list[Any], pointer: str) -> Iterator[FieldError]:
    length_errors = list(_value_errors(Annotated[(list[Any], *metas)] if metas else Any, value, pointer))
    if length_errors:
        yield from length_errors
        return
    for index, member in enumerate(value):
        yield from _errors(element, member, f"{pointer}/{index}")


def _value_errors(kind: Any, value: Any, pointer: str) -> Iterator[FieldError]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        yield FieldError(pointer, str(error).partition(" - at `")[0])
