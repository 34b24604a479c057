"""Whatever is asked of users in whatever order, the service answers as a dictionary with unique names would."""

import asyncio
from datetime import datetime
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from service.settings import Settings
from tests.support.answers import PATIENT, code, next_url, pointers, serving

User = dict[str, Any]

usernames = st.sampled_from(["ada", "bob", "cyd", "d.d", "e-e_"])
emails = st.sampled_from(["a@x", "A@X", "b@x", "ß@x", "ẞ@x", "c@x"])
fields: dict[str, st.SearchStrategy[Any]] = {
    "username": usernames,
    "email": emails,
    "name": st.sampled_from(["Ann", "ä"]),
    "role": st.sampled_from(["reader", "writer", "admin"]),
    "is_active": st.booleans(),
}
DEFAULTS = {"role": "writer", "is_active": True}
new_users = st.fixed_dictionaries(
    {name: fields[name] for name in ("username", "email", "name")}, optional={name: fields[name] for name in DEFAULTS}
)
patches = st.fixed_dictionaries({}, optional=fields)
conditions = st.sampled_from(["none", "current", "stale"])
picks = st.integers(0, 2**31)
orders = st.sampled_from([sign + field for field in ("id", "username", "email", "created_at") for sign in ("", "-")])


def folded(name: str, value: str) -> str:
    """Return a value as it is compared."""
    return value.lower() if name == "email" else value


class UserModel(RuleBasedStateMachine):
    """A service beside a dictionary of users."""

    client: httpx.AsyncClient
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.users: dict[int, User] = {}

    def ask(self, method: str, url: str, body: object = None, **headers: str) -> httpx.Response:
        sent = {} if body is None else {"json": body}
        response = self.runner.run(self.client.request(method, url, headers=headers, **sent))  # type: ignore[arg-type]
        assert response.status_code < 500, response.content
        return response

    def pick(self, number: int) -> int:
        """Choose an id, now and then one that is not there."""
        return [*self.users, 2**40][number % (len(self.users) + 1)]

    def clashes(self, changes: list[tuple[int | None, User]]) -> list[str]:
        """Return the pointers of fields that two users would share after all changes; of two new ones the later."""
        changed = {id for id, _ in changes}
        found = []
        for name in ("username", "email"):
            taken = {folded(name, user[name]) for id, user in self.users.items() if id not in changed}
            taken |= {folded(name, self.users[id][name]) for id, each in changes if id and name not in each}
            for position, (_, each) in enumerate(changes):
                if name in each and folded(name, each[name]) in taken:
                    found.append(f"/{position}/{name}")
                if name in each:
                    taken.add(folded(name, each[name]))
        return sorted(found)

    def check(self, response: httpx.Response, changes: list[tuple[int | None, User]], *, single: bool) -> bool:
        """Return whether the changes were to be made; else compare the refusal."""
        if not (clashes := self.clashes(changes)):
            return True
        assert code(response) == (409, "already-exists")
        assert sorted(pointers(response)) == [each.removeprefix("/0") if single else each for each in clashes]
        return False

    def take(self, answered: User, expected: User) -> None:
        own = {name: answered[name] for name in ("created_at", "updated_at")}
        assert answered == {**expected, **own}
        self.users[answered["id"]] = answered

    @rule(user=new_users)
    def create(self, user: User) -> None:
        response = self.ask("POST", "/users", user)
        if self.check(response, [(None, user)], single=True):
            self.take(response.json(), {**DEFAULTS, **user, "id": response.json()["id"], "version": 1})

    @rule(users=st.lists(new_users, min_size=1, max_size=3))
    def create_several(self, users: list[User]) -> None:
        response = self.ask("POST", "/users", users)
        if self.check(response, [(None, user) for user in users], single=False):
            for answered, user in zip(response.json(), users, strict=True):
                self.take(answered, {**DEFAULTS, **user, "id": answered["id"], "version": 1})

    @rule(number=picks, patch=patches, condition=conditions)
    def update(self, number: int, patch: User, condition: str) -> None:
        self.write("PATCH", self.pick(number), patch, patch, condition)

    @rule(number=picks, user=new_users, condition=conditions)
    def replace(self, number: int, user: User, condition: str) -> None:
        self.write("PUT", self.pick(number), user, {**DEFAULTS, **user}, condition)

    def write(self, method: str, id: int, body: User, change: User, condition: str) -> None:
        before = self.users.get(id, {"version": 1})
        tag = f'"{before["version"] + (condition == "stale")}-json"'
        response = self.ask(method, f"/users/{id}", body, **({} if condition == "none" else {"if-match": tag}))
        if id not in self.users:
            assert code(response) == (404, "user-not-found")
        elif condition == "stale":
            assert code(response) == (412, "stale")
        elif self.check(response, [(id, change)], single=True):
            self.take(response.json(), {**before, **change, "version": before["version"] + bool(change)})

    @rule(chosen=st.lists(st.tuples(picks, patches), min_size=1, max_size=4))
    def update_several(self, chosen: list[tuple[int, User]]) -> None:
        members = {self.pick(number): patch for number, patch in chosen}
        self.write_several(members)

    @rule(first=picks, second=picks, name=st.sampled_from(["username", "email"]))
    def swap(self, first: int, second: int, name: str) -> None:
        one, other = self.pick(first), self.pick(second)
        if one != other and {one, other} <= self.users.keys():
            self.write_several({one: {name: self.users[other][name]}, other: {name: self.users[one][name]}})

    def write_several(self, members: dict[int, User]) -> None:
        response = self.ask("PATCH", "/users", [{"id": id, **patch} for id, patch in members.items()])
        if not members.keys() <= self.users.keys():
            assert code(response) == (404, "user-not-found")
        elif self.check(response, list(members.items()), single=False):
            for answered, (id, patch) in zip(response.json(), members.items(), strict=True):
                before = self.users[id]
                self.take(answered, {**before, **patch, "version": before["version"] + bool(patch)})

    @rule(number=picks)
    def delete(self, number: int) -> None:
        id = self.pick(number)
        assert self.ask("DELETE", f"/users/{id}").status_code == (204 if self.users.pop(id, None) else 404)

    @rule(email=emails)
    def find(self, email: str) -> None:
        found = [user for user in self.users.values() if folded("email", user["email"]) == folded("email", email)]
        assert self.ask("GET", f"/users?{httpx.QueryParams({'email': email})}").json() == found

    @rule(order=orders, limit=st.integers(1, 3))
    def walk(self, order: str, limit: int) -> None:
        name = order.removeprefix("-")

        def key(user: User) -> tuple[Any, int]:
            if name == "created_at":  # a text without a fraction of a second would not be in its place
                return datetime.fromisoformat(user[name]), user["id"]
            return folded(name, user[name]), user["id"]

        expected = sorted(self.users.values(), key=key, reverse=order.startswith("-"))
        following: str | None = f"/users?order={order}&limit={limit}"
        walked: list[User] = []
        while following and len(walked) <= len(expected):
            response = self.ask("GET", following)
            walked += response.json()
            following = next_url(response)
        assert walked == expected

    @invariant()
    def nothing_else_is_there(self) -> None:
        assert self.ask("GET", "/users").json() == [self.users[id] for id in sorted(self.users)]

    def teardown(self) -> None:
        if self.users:
            self.ask("DELETE", f"/users?ids={','.join(map(str, self.users))}")


@pytest.mark.parametrize("coalesce", [True, False], ids=["coalesced", "one by one"])
def test_the_service_answers_as_a_dictionary_with_unique_names_would(database_url: str, coalesce: bool) -> None:
    service = serving(Settings(database_url=database_url, coalesce=coalesce, **PATIENT))
    with asyncio.Runner() as runner:
        machine = type("Machine", (UserModel,), {"client": runner.run(service.__aenter__()), "runner": runner})
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
