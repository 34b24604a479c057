"""Whatever is asked of items in whatever order, the service responds as a dictionary would."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.api.model import Model, Row, run_model

DOUBLE_MAX = 1.7976931348623157e308

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
names = st.text("aAb", min_size=1, max_size=3) | st.text(characters, min_size=1, max_size=255)
prices = st.sampled_from([0, 1, 99.5]) | st.floats(0, DOUBLE_MAX) | st.integers(0, 2**53)
fields: dict[str, st.SearchStrategy[Any]] = {"name": names, "price": prices, "in_stock": st.booleans()}
filters: dict[str, st.SearchStrategy[Any]] = {
    "in_stock": st.booleans(),
    "price_min": st.floats(0, 100),
    "price_max": st.floats(1, 1e300),
}


class ItemModel(Model):
    """Items, which have nothing unique but their ids."""

    path, noun = "/items", "item"
    defaults = {"in_stock": True, "owner_id": None}  # noqa: RUF012 - a ClassVar, as Model declares it
    new_rows = st.fixed_dictionaries({"name": names, "price": prices}, optional={"in_stock": st.booleans()})
    patches = st.fixed_dictionaries({}, optional=fields)
    invalid_rows = new_rows.flatmap(
        lambda item: st.sampled_from(
            [
                item | {"name": ""},
                item | {"price": -1},
                item | {"colour": "red"},
                {"name": item["name"]},
                item | {"id": 1},
            ]
        )
    )
    orders = st.sampled_from([sign + field for field in ("id", "name", "price", "created_at") for sign in ("", "-")])

    @property
    def filters(self) -> st.SearchStrategy[Row]:
        """Return the strategy for the filters of a list, among them the beginnings of names that are there."""
        prefixes = sorted({row["name"][:length] for row in self.rows.values() for length in (1, 2)})
        prefix = {"name_prefix": st.sampled_from(prefixes)} if prefixes else {}
        return st.just({}) | st.fixed_dictionaries({}, optional={**filters, **prefix})

    def matches(self, row: Row, filters: Mapping[str, Any]) -> bool:
        """Return whether an item passes the filters of a list."""
        return (
            filters.get("in_stock") in {None, row["in_stock"]}
            and filters.get("price_min", 0) <= row["price"] <= filters.get("price_max", DOUBLE_MAX)
            and row["name"].startswith(filters.get("name_prefix", ""))
        )


@pytest.mark.parametrize("coalesce", [True, False], ids=["coalesced", "one by one"])
def test_the_service_responds_as_a_dictionary_would(database_url: str, coalesce: bool) -> None:
    run_model(ItemModel, database_url, coalesce=coalesce)
