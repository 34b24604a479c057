"""The client knows what the service's OpenAPI document says, field by field, and nothing of its code."""

import inspect
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

import items_client
from items_client.client import Client
from items_client.errors import CLASS_BY_CODE, Problem
from items_client.items import Items
from items_client.resource import Resource
from items_client.sync_client import SyncClient
from items_client.sync_resources import SyncItems, SyncResource, SyncUsers
from items_client.users import Users
from service.openapi.document import document
from service.routes import ROUTES

DOCUMENT: dict[str, Any] = document(ROUTES)
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
STRUCTS = {
    "ItemResponse": items_client.Item,
    "ItemCreate": items_client.ItemCreate,
    "BatchItemPatch": items_client.ItemPatch,
    "UserResponse": items_client.User,
    "UserWithItems": items_client.UserWithItems,
    "UserCreate": items_client.UserCreate,
    "BatchUserPatch": items_client.UserPatch,
    "FieldError": items_client.FieldError,
}
CHANGES = {"ItemPatch": items_client.ItemChanges, "UserPatch": items_client.UserChanges}
LISTS = {
    "/items": (items_client.ItemFilters, items_client.ItemOrder),
    "/users": (items_client.UserFilters, items_client.UserOrder),
}
OF_EVERY_LIST = {"order", "limit", "after", "offset", "count", "ids"}


def types(schema: dict[str, Any]) -> Any:
    """Return what types a schema allows, without bounds and descriptions."""
    if "anyOf" in schema:
        return sorted((types(each) for each in schema["anyOf"]), key=str)
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2].removesuffix("Response")
    kind = schema.get("type", "string")  # msgspec gives none beside an enum
    if kind == "array":
        return [types(schema["items"])]
    return (kind, schema.get("format") == "date-time", *sorted(schema.get("enum", ())))


def shape(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an object: their types, whether they are needed, and their defaults."""
    needed = schema.get("required", ())
    return {name: (types(each), name in needed, each.get("default")) for name, each in schema["properties"].items()}


def own_shape(kind: Any) -> dict[str, Any]:
    _, components = msgspec.json.schema_components([kind])
    return shape(components[kind.__name__])


@pytest.mark.parametrize("name", STRUCTS)
def test_a_struct_has_the_fields_of_the_document(name: str) -> None:
    assert own_shape(STRUCTS[name]) == shape(SCHEMAS[name])


@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_the_fields_of_a_patch(name: str) -> None:
    assert own_shape(CHANGES[name]) == shape(SCHEMAS[name])


@pytest.mark.parametrize("path", LISTS)
def test_filters_and_orders_are_those_of_the_list(path: str) -> None:
    filters, order = LISTS[path]
    parameters = [each for each in DOCUMENT["paths"][path]["get"]["parameters"] if "name" in each]
    schemas = {each["name"]: each["schema"] for each in parameters}
    assert sorted(get_args(order)) == schemas["order"]["enum"]
    own = {name: each[0] for name, each in own_shape(filters).items()}
    assert own == {name: types(schema) for name, schema in schemas.items() if name not in OF_EVERY_LIST}


def test_every_code_of_a_problem_has_its_class() -> None:
    assert sorted(CLASS_BY_CODE) == SCHEMAS["Problem"]["properties"]["code"]["enum"]
    assert set(Problem.__struct_fields__) <= set(SCHEMAS["Problem"]["properties"])


def signature(method: Any) -> Any:
    """Return the parameters of a method, and what it yields or returns."""
    hints = get_type_hints(method)
    result = str(hints.pop("return")).replace("AsyncIterator", "Iterator")
    return (
        hints,
        result,
        [(each.name, each.kind, each.default) for each in inspect.signature(method).parameters.values()],
    )


@pytest.mark.parametrize(
    ("kind", "waiting"),
    [(Resource, SyncResource), (Items, SyncItems), (Users, SyncUsers)],
    ids=lambda kind: kind.__name__,
)
def test_the_synchronous_face_has_the_same_methods(kind: type, waiting: type) -> None:
    names = {name for name in vars(kind) if not name.startswith("_")} - {"pages"}
    assert names == {name for name in vars(waiting) if not name.startswith("_")}
    assert {name: signature(vars(kind)[name]) for name in names} == {
        name: signature(vars(waiting)[name]) for name in names
    }
    assert inspect.signature(Client) == inspect.signature(SyncClient)
