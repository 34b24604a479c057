"""Every fault of a value that was refused: a decoder stops at the first, its caller wants all of them."""

import re
from collections.abc import Iterator
from itertools import islice
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from msgspec.structs import fields

from service.http.problems import FieldError

FAULTS_MAX = 100
STEP = re.compile(r"\[(\d+)\]|\.(\w+)")
FIELD = re.compile(r"unknown field `(.*)`", re.DOTALL)


def find(kind: Any, value: Any, error: msgspec.ValidationError) -> list[FieldError]:
    """List the faults of a plain value against a type, at most 100; without any, the one that was raised."""
    return list(islice(_faults(kind, value, ""), FAULTS_MAX)) or [raised(error)]


def raised(error: msgspec.ValidationError) -> FieldError:
    """Turn msgspec's own message, which ends like "at `$[0].name`" or "at `key` in `$[0]`", into a fault."""
    detail, _, path = str(error).partition(" - at `")
    pointer = "".join(f"/{index or name}" for index, name in STEP.findall(path))
    field = FIELD.search(detail)
    return FieldError(pointer + _step(field[1]) if field else pointer, detail)


def _faults(kind: Any, value: Any, pointer: str) -> Iterator[FieldError]:
    for one in _members(kind):
        bare, *metas = get_args(one) if get_origin(one) is Annotated else (one,)
        if isinstance(value, dict) and isinstance(bare, type) and issubclass(bare, msgspec.Struct):
            yield from _struct_faults(bare, value, pointer)
            return
        if isinstance(value, list) and get_origin(bare) is list:
            yield from _list_faults(get_args(bare)[0], metas, value, pointer)
            return
    yield from _value_faults(kind, value, pointer)


def _members(kind: Any) -> tuple[Any, ...]:
    """Split a union."""
    return get_args(kind) if get_origin(kind) in {UnionType, Union} else (kind,)


def _struct_faults(kind: type[msgspec.Struct], value: dict[Any, Any], pointer: str) -> Iterator[FieldError]:
    known = {field.encode_name: field for field in fields(kind)}
    for name, field in known.items():
        if name in value:
            yield from _faults(field.type, value[name], f"{pointer}/{name}")
        elif field.required:
            yield FieldError(f"{pointer}/{name}", "Missing")
    for name in value:
        if name not in known:
            yield FieldError(pointer + _step(str(name)), "Unknown field")


def _step(name: str) -> str:
    return f"/{name.replace('~', '~0').replace('/', '~1')[:255]}"


def _list_faults(element: Any, metas: list[Any], value: list[Any], pointer: str) -> Iterator[FieldError]:
    length_faults = list(_value_faults(Annotated[(list[Any], *metas)] if metas else Any, value, pointer))
    if length_faults:
        yield from length_faults
        return
    for index, member in enumerate(value):
        yield from _faults(element, member, f"{pointer}/{index}")


def _value_faults(kind: Any, value: Any, pointer: str) -> Iterator[FieldError]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        yield FieldError(pointer, str(error).partition(" - at `")[0])
