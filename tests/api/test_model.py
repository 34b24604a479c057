"""Whatever is asked in whatever order, the service answers as a dictionary would."""

import asyncio
from datetime import datetime
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from service.settings import Settings
from tests.api.test_lists import ordered
from tests.support.answers import PATIENT, Item, code, next_url, serving

DOUBLE_MAX = 1.7976931348623157e308

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
names = st.text("aAb", min_size=1, max_size=3) | st.text(characters, min_size=1, max_size=255)
prices = st.sampled_from([0, 1, 99.5]) | st.floats(0, DOUBLE_MAX) | st.integers(0, 2**53)
fields: dict[str, st.SearchStrategy[Any]] = {"name": names, "price": prices, "in_stock": st.booleans()}
new_items = st.fixed_dictionaries({"name": names, "price": prices}, optional={"in_stock": st.booleans()})
patches = st.fixed_dictionaries({}, optional=fields)
bad_items = new_items.flatmap(
    lambda item: st.sampled_from(
        [item | {"name": ""}, item | {"price": -1}, item | {"colour": "red"}, {"name": item["name"]}, item | {"id": 1}]
    )
)
conditions = st.sampled_from(["none", "current", "stale"])
orders = st.sampled_from([sign + field for field in ("id", "name", "price", "created_at") for sign in ("", "-")])
filters: st.SearchStrategy[dict[str, Any]] = st.just({}) | st.fixed_dictionaries(
    {}, optional={"in_stock": st.booleans(), "price_min": st.floats(0, 100), "price_max": st.floats(1, 1e300)}
)
picks = st.integers(0, 2**31)


def matches(item: Item, filters: dict[str, Any]) -> bool:
    """Whether an item passes the filters of a list."""
    return (
        filters.get("in_stock") in {None, item["in_stock"]}
        and filters.get("price_min", 0) <= item["price"] <= filters.get("price_max", DOUBLE_MAX)
        and item["name"].startswith(filters.get("name_prefix", ""))
    )


class Model(RuleBasedStateMachine):
    """A service beside a dictionary; ids that were deleted, or never given out, are asked for too."""

    client: httpx.AsyncClient
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.items: dict[int, Item] = {}
        self.gone: list[int] = [2**63 - 1]

    def ask(self, method: str, url: str, body: object = None, **headers: str) -> httpx.Response:
        """Ask the service."""
        sent = {} if body is None else {"json": body}
        response = self.runner.run(self.client.request(method, url, headers=headers, **sent))  # type: ignore[arg-type]
        assert response.status_code < 500, response.content
        return response

    def pick(self, number: int) -> int:
        """Choose an id, now and then one that is not there."""
        return [*self.items, self.gone[number % len(self.gone)]][number % (len(self.items) + 1)]

    def expected(self, id: int, change: dict[str, Any], condition: str) -> tuple[Item | str, dict[str, str]]:
        """Return the item as it should become, or the code of the problem, and the header that says the condition."""
        item = self.items.get(id, {"version": 1})
        version = item["version"] + (condition == "stale")
        headers = {} if condition == "none" else {"if-match": f'"{version}-json"'}
        if id not in self.items:
            return "item-not-found", headers
        if condition == "stale":
            return "stale", headers
        return {**item, **change, "version": item["version"] + bool(change)}, headers

    def check(self, response: httpx.Response, expected: Item | str) -> None:
        """Compare an answer with what was expected, and take the item over."""
        if isinstance(expected, str):
            assert code(response)[1] == expected
            return
        assert response.status_code == 200, response.content
        self.take(response.json(), expected)

    def take(self, answered: Item, expected: Item) -> None:
        """Keep what was answered, once it is as expected; only the moment of the change is the service's to choose."""
        assert datetime.fromisoformat(answered["updated_at"]) >= datetime.fromisoformat(answered["created_at"])
        assert answered | {"updated_at": 0} == expected | {"updated_at": 0}
        self.items[answered["id"]] = answered

    @rule(item=new_items)
    def create(self, item: dict[str, Any]) -> None:
        response = self.ask("POST", "/items", item)
        assert response.status_code == 201
        self.created(response.json(), item)

    def created(self, answered: Item, sent: dict[str, Any]) -> None:
        """Compare an item with what it was made of."""
        assert answered["id"] > max([0, *self.items, *self.gone[1:]])
        own = {name: answered[name] for name in ("id", "created_at", "updated_at")}
        self.take(answered, {"in_stock": True, "owner_id": None, **sent, "version": 1, **own})

    @initialize(items=st.lists(new_items, min_size=5, max_size=9))
    def fill(self, items: list[dict[str, Any]]) -> None:
        self.create_set(items)

    @rule(items=st.lists(new_items, min_size=1, max_size=5))
    def create_set(self, items: list[dict[str, Any]]) -> None:
        response = self.ask("POST", "/items", items)
        assert response.status_code == 201
        for answered, sent in zip(response.json(), items, strict=True):
            self.created(answered, sent)

    @rule(item=bad_items, good=st.lists(new_items, max_size=2))
    def create_badly(self, item: dict[str, Any], good: list[dict[str, Any]]) -> None:
        assert code(self.ask("POST", "/items", item)) == (422, "invalid-body")
        assert code(self.ask("POST", "/items", [*good, item])) == (422, "invalid-body")

    @rule(number=picks)
    def read(self, number: int) -> None:
        id = self.pick(number)
        response = self.ask("GET", f"/items/{id}")
        if id in self.items:
            assert response.json() == self.items[id]
        else:
            assert code(response) == (404, "item-not-found")

    @rule(number=picks, item=new_items, condition=conditions)
    def replace(self, number: int, item: dict[str, Any], condition: str) -> None:
        id = self.pick(number)
        expected, headers = self.expected(id, {"in_stock": True, **item}, condition)
        self.check(self.ask("PUT", f"/items/{id}", item, **headers), expected)

    @rule(number=picks, patch=patches, condition=conditions)
    def change(self, number: int, patch: dict[str, Any], condition: str) -> None:
        id = self.pick(number)
        expected, headers = self.expected(id, patch, condition)
        self.check(self.ask("PATCH", f"/items/{id}", patch, **headers), expected)

    @rule(chosen=st.lists(st.tuples(picks, patches, conditions), min_size=1, max_size=4))
    def change_set(self, chosen: list[tuple[int, dict[str, Any], str]]) -> None:
        members = {self.pick(number): (patch, condition) for number, patch, condition in chosen}
        body, expected = [], []
        for id, (patch, condition) in members.items():
            becomes, _ = self.expected(id, patch, condition)
            version = self.items.get(id, {"version": 1})["version"] + (condition == "stale")
            body.append({"id": id, **patch} | ({} if condition == "none" else {"version": version}))
            expected.append(becomes)
        response = self.ask("PATCH", "/items", body)
        problems = [one for one in expected if isinstance(one, str)]
        if problems:
            assert code(response)[1] == ("item-not-found" if "item-not-found" in problems else "stale")
            return
        for answered, becomes in zip(response.json(), expected, strict=True):
            assert not isinstance(becomes, str)
            self.take(answered, becomes)

    @rule(number=picks, condition=conditions)
    def delete(self, number: int, condition: str) -> None:
        id = self.pick(number)
        expected, headers = self.expected(id, {}, condition)
        response = self.ask("DELETE", f"/items/{id}", **headers)
        if isinstance(expected, str):
            assert code(response)[1] == expected
        else:
            assert response.status_code == 204
            self.forget(id)

    @rule(numbers=st.lists(picks, min_size=1, max_size=3))
    def delete_set(self, numbers: list[int]) -> None:
        ids = list(dict.fromkeys(map(self.pick, numbers)))
        response = self.ask("DELETE", f"/items?ids={','.join(map(str, ids))}")
        assert response.json() == [id for id in ids if id in self.items]
        for id in response.json():
            self.forget(id)

    def forget(self, id: int) -> None:
        """Move an id to those that are gone for good."""
        del self.items[id]
        self.gone.append(id)

    @rule(numbers=st.lists(picks, min_size=1, max_size=4))
    def read_set(self, numbers: list[int]) -> None:
        ids = list(dict.fromkeys(map(self.pick, numbers)))
        response = self.ask("GET", f"/items?ids={','.join(map(str, ids))}")
        assert response.json() == [self.items[id] for id in ids if id in self.items]

    @rule(order=orders, limit=st.integers(1, 4), filters=filters, number=picks)
    def walk(self, order: str, limit: int, filters: dict[str, Any], number: int) -> None:
        chosen = self.items.get(self.pick(number))
        if chosen is not None and number % 3 == 0:
            filters = filters | {"name_prefix": chosen["name"][: 1 + number % 2]}
        expected = [item for item in ordered(self.items.values(), order) if matches(item, filters)]
        sent = {name: str(value).lower() if isinstance(value, bool) else value for name, value in filters.items()}
        following: str | None = f"/items?order={order}&limit={limit}&count=true&{httpx.QueryParams(sent)}"
        walked: list[Item] = []
        while following and len(walked) <= len(expected):
            response = self.ask("GET", following)
            assert response.headers.get("x-total-count", str(len(expected))) == str(len(expected))
            walked += response.json()
            following = next_url(response)
        assert walked == expected

    @invariant()
    def nothing_else_is_there(self) -> None:
        if len(self.items) <= 1000:
            response = self.ask("GET", "/items?limit=1000&order=id")
            assert response.json() == [self.items[id] for id in sorted(self.items)]

    def teardown(self) -> None:
        if self.items:
            self.ask("DELETE", f"/items?ids={','.join(map(str, self.items))}")


@pytest.mark.parametrize("coalesce", [True, False], ids=["coalesced", "one by one"])
def test_the_service_answers_as_a_dictionary_would(database_url: str, coalesce: bool) -> None:
    service = serving(Settings(database_url=database_url, coalesce=coalesce, **PATIENT))
    with asyncio.Runner() as runner:
        machine = type("Machine", (Model,), {"client": runner.run(service.__aenter__()), "runner": runner})
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=12,
                    stateful_step_count=25,
                    deadline=None,
                    derandomize=True,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(service.__aexit__(None, None, None))
