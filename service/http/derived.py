"""The Structs that follow from others: of a merge patch, alone and in a batch, and of the query of a list."""

from types import NoneType
from typing import Annotated, Any, Literal, Union

from msgspec import NODEFAULT, UNSET, Meta, Struct, UnsetType, defstruct, field
from msgspec.structs import FieldInfo, fields

from db.tables.table import Table
from service.http.validation import struct_fields, union_members
from service.schemas import ListQuery, Version


def merge_patch(create: type[Struct]) -> Any:
    """Return the Struct of a merge patch (RFC 7396) for what a Struct creates: each field may be absent."""
    return defstruct(
        create.__name__.removesuffix("Create") + "Patch",
        [(field.name, field.type | UnsetType, UNSET) for field in fields(create)],
        bases=create.__bases__,  # such as Secretive, whose repr shows no values
        namespace={"__doc__": "A merge patch (RFC 7396): what is absent stays."},
        frozen=True,
        forbid_unknown_fields=True,
        kw_only=True,
    )


def without_default(create: type[Struct], name: str) -> Any:
    """Return a Struct for what a Struct creates, in which one field that is absent is UNSET, not its default."""
    return defstruct(
        create.__name__,
        [(one.name, one.type | UnsetType, UNSET) if one.name == name else _as_it_is(one) for one in fields(create)],
        bases=create.__bases__,
        frozen=True,
        forbid_unknown_fields=True,
        omit_defaults=True,
        kw_only=True,  # so that fields without a default need not come first
    )


def _as_it_is(one: FieldInfo) -> tuple[Any, ...]:
    """Return a field's name, its type, and its default if it has one."""
    if one.default_factory is not NODEFAULT:
        return one.name, one.type, field(default_factory=one.default_factory)
    return (one.name, one.type) if one.required else (one.name, one.type, one.default)


def batch_patch(patch: type[Struct], id_type: Any) -> Any:
    """Return the Struct of a merge patch with the id of its row, and the version that the row must be at."""
    text = "A merge patch for one member of a batch; with a version, it must still be at it."
    own: list[Any] = [("id", id_type), ("version", Version | UnsetType, UNSET)]
    return defstruct(f"Batch{patch.__name__}", own, bases=(patch,), namespace={"__doc__": text}, frozen=True)


def list_query(table: Table, response: type[Struct]) -> Any:
    """Return the Struct of a list's query: a table's orders and filters, with the types of the response's fields."""
    orders = Literal[tuple(sign + order for order in table.orders for sign in ("", "-"))]  # type: ignore[valid-type]
    own: list[Any] = [("order", Annotated[orders, Meta(description="What to order by, `-` for descending.")], "id")]
    types = struct_fields(response)
    for name, one in table.filters.items():
        if name in ListQuery.__struct_fields__:
            raise TypeError(f"{table.name} cannot have a filter {name}: it is a parameter of every list")
        members = tuple(member for member in union_members(types[one.column].type) if member is not NoneType)
        text = Meta(description=f"Only {table.name} whose {one.column} is {one.meaning}.")
        own.append((name, Annotated[Union[members] if one.compares else bool, text] | UnsetType, UNSET))  # noqa: UP007
    name = response.__name__.removesuffix("Response") + "Query"
    namespace = {"__doc__": f"Which {table.name} to list."}
    return defstruct(name, own, bases=(ListQuery,), namespace=namespace, frozen=True)
