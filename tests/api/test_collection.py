"""A collection is made of Structs that fit its table, or not at all."""

from typing import cast

import pytest
from msgspec import defstruct

from db.resources.items import ITEMS
from service.http.collection import Collection
from service.http.operation import Resource
from service.resources.items import ItemCreate, ItemResponse


def test_a_struct_whose_fields_are_not_those_of_the_rows_is_refused() -> None:
    swapped = defstruct("ItemCreate", [*zip(ITEMS.fields[::-1], [str] * len(ITEMS.fields), strict=True)])
    with pytest.raises(TypeError, match="ItemCreate must have the fields of its table's rows"):
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
