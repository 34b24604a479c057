"""Whatever is asked of users in whatever order, the service responds as a dictionary with unique names would."""

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.api.model import Change, Model, Row, own, picks, run_model

# So few that they clash.
usernames = st.sampled_from(["ada", "bob", "cyd", "d.d", "e-e_"]) | st.text("abc", min_size=3, max_size=3)
emails = st.sampled_from(["a@x", "A@X", "b@x", "ß@x", "ẞ@x", "c@x"]) | st.text("abAB", min_size=1, max_size=2).map(
    "{}@y".format
)
fields: dict[str, st.SearchStrategy[Any]] = {
    "username": usernames,
    "email": emails,
    "name": st.sampled_from(["Ann", "ä"]),
    "role": st.sampled_from(["reader", "writer", "admin"]),
    "is_active": st.booleans(),
}


class UserModel(Model):
    """Users, who have a username and an address of their own."""

    path, noun = "/users", "user"
    defaults = {"role": "writer", "is_active": True}  # noqa: RUF012 - a ClassVar, as Model declares it
    unique = ("username", "email")
    folded = ("email",)
    new_rows = st.fixed_dictionaries(
        {name: fields[name] for name in ("username", "email", "name")},
        optional={name: fields[name] for name in ("role", "is_active")},
    )
    patches = st.fixed_dictionaries({}, optional=fields)
    invalid_rows = new_rows.flatmap(
        lambda user: st.sampled_from(
            [
                *(
                    user | each
                    for each in ({"username": "Ada"}, {"email": "x"}, {"role": "owner"}, {"age": 7}, {"id": 1})
                ),
                {"username": user["username"]},
            ]
        )
    )
    orders = st.sampled_from(
        [sign + field for field in ("id", "username", "email", "created_at") for sign in ("", "-")]
    )

    @property
    def filters(self) -> st.SearchStrategy[Row]:
        """Return the strategy for the filters of a list."""
        return st.just({}) | st.fixed_dictionaries(
            {}, optional={name: fields[name] for name in fields if name != "name"}
        )

    @rule(first=picks, second=picks, name=st.sampled_from(unique))
    def swap(self, first: int, second: int, name: str) -> None:
        one, other = self.pick(first), self.pick(second)
        if one != other and {one, other} <= self.rows.keys():
            self.write_batch([Change(id, {name: self.rows[of][name]}) for id, of in ((one, other), (other, one))])

    @rule(numbers=st.lists(picks, min_size=2, max_size=3), patch=own("patches"))
    def update_alike(self, numbers: list[int], patch: Row) -> None:
        self.write_batch([Change(id, patch) for id in self.pick_several(numbers)])


@pytest.mark.parametrize("coalesce", [True, False], ids=["coalesced", "one by one"])
def test_the_service_responds_as_a_dictionary_with_unique_names_would(database_url: str, coalesce: bool) -> None:
    run_model(UserModel, database_url, coalesce=coalesce)
