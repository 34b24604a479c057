"""A collection is made of Structs that fit its table, or not at all."""

from dataclasses import replace
from datetime import date
from typing import Annotated, Any, cast

import pytest
from msgspec import Meta, defstruct

from db.resources.items import ITEMS
from db.tables.filters import equals
from service.http.collection import Collection
from service.http.derived import list_query
from service.http.operation import Operation, Resource
from service.http.problems import UNKNOWN_REFERENCE
from service.openapi.schemas import Schemas
from service.resources import users
from service.resources.items import ItemCreate, ItemResponse


def test_a_struct_whose_fields_are_not_those_of_the_rows_is_refused() -> None:
    swapped = defstruct("ItemCreate", [*zip(ITEMS.fields[::-1], [str] * len(ITEMS.fields), strict=True)])
    with pytest.raises(TypeError, match="the fields of ItemCreate are"):
        Collection(ITEMS, swapped, ItemResponse, lambda context: context.items)


def test_the_structs_of_patches_and_queries_follow_from_the_others() -> None:
    routes = Collection(ITEMS, ItemCreate, ItemResponse, lambda context: context.items).routes()
    one, many = (cast("Resource", route.endpoint).operations for route in routes)
    patch = one["PATCH"].body
    assert patch is not None
    assert (patch.__name__, patch.__struct_fields__) == ("ItemPatch", ItemCreate.__struct_fields__)
    query = many["GET"].query
    assert query is not None
    assert query.__name__ == "ItemQuery"
    assert set(ITEMS.filters) < set(query.__struct_fields__)


def test_a_response_whose_fields_are_not_those_of_the_table_is_refused() -> None:
    fields = ItemResponse.__struct_fields__
    swapped: Any = defstruct("ItemResponse", [*zip((fields[0], *fields[:0:-1]), [int] * len(fields), strict=True)])
    with pytest.raises(TypeError, match="the fields of ItemResponse are"):
        Collection(ITEMS, ItemCreate, swapped, lambda context: context.items)


def test_an_own_operation_has_the_refusals_of_its_table() -> None:
    own = Operation(users.delete_user, status=204, problems=[UNKNOWN_REFERENCE])
    one, _ = users.COLLECTION.routes(DELETE=own)
    operation = cast("Resource", one.endpoint).operations["DELETE"]
    assert operation.handler is users.delete_user
    assert [problem.code for problem in operation.problems] == ["owns-items", UNKNOWN_REFERENCE.code]
    assert list(own.problems) == [UNKNOWN_REFERENCE]


def test_a_field_without_an_example_is_named() -> None:
    struct = defstruct("Place", [("opened_on", Annotated[date | None, Meta(description="no example")])])
    with pytest.raises(TypeError, match="there is no example of") as refused:
        Schemas().content(struct)
    assert refused.value.__notes__ == ["It is of Place.opened_on"]


def test_a_filter_with_the_name_of_a_list_parameter_is_refused() -> None:
    with pytest.raises(TypeError, match="items cannot have a filter count"):
        list_query(replace(ITEMS, filters={"count": equals("in_stock")}), ItemResponse)
