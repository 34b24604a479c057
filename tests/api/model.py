"""A service beside a dictionary: the rules that every resource has, for hypothesis to apply in whatever order."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple

import httpx
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from service.settings import Settings
from tests.support.responses import PATIENT, code, next_url, pointers, serving

Row = dict[str, Any]

SETTINGS = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    # Without Phase.shrink: a run of 25 requests is readable, and every attempt to shorten it sends as many again. That
    # went on for longer than faulthandler_timeout, which ended the worker and with it the report of what had failed.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

conditions = st.sampled_from(["none", "current", "stale"])
picks = st.integers(0, 2**31)


class Change(NamedTuple):
    """Fields that a row is to have; a new row has no id."""

    id: int | None
    fields: Row
    condition: str = "none"


def own(name: str) -> st.SearchStrategy[Any]:
    """Return the strategy that the model of a resource has under a name."""
    return st.runner().flatmap(attrgetter(name))


class Model(RuleBasedStateMachine):
    """A resource of a service beside a dictionary; ids that were deleted, or never given out, are asked for too."""

    client: httpx.AsyncClient
    runner: asyncio.Runner

    path: ClassVar[str]
    noun: ClassVar[str]
    defaults: ClassVar[Row]
    unique: ClassVar[Sequence[str]] = ()
    folded: ClassVar[Sequence[str]] = ()  # the fields that are compared whatever their case
    new_rows: ClassVar[st.SearchStrategy[Row]]
    invalid_rows: ClassVar[st.SearchStrategy[Row]]
    patches: ClassVar[st.SearchStrategy[Row]]
    orders: ClassVar[st.SearchStrategy[str]]

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, Row] = {}
        self.deleted: list[int] = [2**63 - 1]

    @property
    def filters(self) -> st.SearchStrategy[Row]:
        """Return the strategy for the filters of a list."""
        raise NotImplementedError

    def matches(self, row: Row, filters: Mapping[str, Any]) -> bool:
        """Return whether a row passes the filters of a list: by default, whether it has these values."""
        return all(self.comparable(name, row[name]) == self.comparable(name, value) for name, value in filters.items())

    def comparable(self, name: str, value: Any) -> Any:
        """Return a field's value as it is compared."""
        if name == "created_at":  # as text, a timestamp without a fraction of a second would be out of its place
            return datetime.fromisoformat(value)
        return value.lower() if name in self.folded else value

    def ask(self, method: str, url: str, body: object = None, **headers: str) -> httpx.Response:
        """Return the response to a request."""
        sent = {} if body is None else {"json": body}
        response = self.runner.run(self.client.request(method, url, headers=headers, **sent))  # type: ignore[arg-type]
        assert response.status_code < 500, response.content
        return response

    def pick(self, number: int) -> int:
        """Choose an id, now and then one that is not there."""
        return [*self.rows, self.deleted[number % len(self.deleted)]][number % (len(self.rows) + 1)]

    def pick_several(self, numbers: Iterable[int]) -> list[int]:
        """Choose ids, each of them once."""
        return list(dict.fromkeys(map(self.pick, numbers)))

    def ids_url(self, ids: Iterable[int]) -> str:
        """Return the address of rows."""
        return f"{self.path}?ids={','.join(map(str, ids))}"

    def version(self, change: Change) -> int:
        """Return the version that a change with a condition expects."""
        version: int = self.rows.get(change.id or 0, {"version": 1})["version"]
        return version + (change.condition == "stale")

    def clashes(self, changes: Sequence[Change]) -> list[tuple[int, str]]:
        """Return the place and name of each field that another row would have, too, once all changes are made."""
        changed = {change.id for change in changes}
        found = []
        for name in self.unique:
            kept = [row for id, row in self.rows.items() if id not in changed]
            kept += [self.rows[change.id] for change in changes if change.id and name not in change.fields]
            taken = {self.comparable(name, row[name]) for row in kept}
            for place, change in enumerate(changes):
                if name in change.fields:
                    value = self.comparable(name, change.fields[name])
                    found += [(place, name)] if value in taken else []
                    taken.add(value)
        return found

    def refuses(self, response: httpx.Response, changes: Sequence[Change], *, is_batch: bool) -> bool:
        """Return whether changes are to be refused, once the response is that refusal."""
        if any(change.id is not None and change.id not in self.rows for change in changes):
            assert code(response) == (404, f"{self.noun}-not-found")
        elif any(change.condition == "stale" for change in changes):
            assert code(response) == (412, "stale")
        elif clashes := self.clashes(changes):
            assert code(response) == (409, "already-exists")
            assert set(pointers(response)) == {
                f"/{place}/{name}" if is_batch else f"/{name}" for place, name in clashes
            }
        else:
            return False
        return True

    def store(self, answered: Row, expected: Row) -> None:
        """Store a row of a response, once it is as expected; only the time of the update is the service's to choose."""
        assert datetime.fromisoformat(answered["updated_at"]) >= datetime.fromisoformat(answered["created_at"])
        assert answered | {"updated_at": 0} == expected | {"updated_at": 0}
        self.rows[answered["id"]] = answered

    def created(self, response: httpx.Response, changes: Sequence[Change], *, is_batch: bool) -> None:
        """Compare a response with what was to be created."""
        if self.refuses(response, changes, is_batch=is_batch):
            return
        assert response.status_code == 201, response.content
        known = max([0, *self.rows, *self.deleted[1:]])
        answered = response.json() if is_batch else [response.json()]
        assert len({row["id"] for row in answered}) == len(answered)
        for row, change in zip(answered, changes, strict=True):
            assert row["id"] > known
            own_fields = {name: row[name] for name in ("id", "created_at", "updated_at")}
            self.store(row, {**self.defaults, **change.fields, "version": 1, **own_fields})

    def updated(self, response: httpx.Response, changes: Sequence[Change], *, is_batch: bool) -> None:
        """Compare a response with what was to be updated."""
        if self.refuses(response, changes, is_batch=is_batch):
            return
        assert response.status_code == 200, response.content
        for row, (id, fields, _) in zip(response.json() if is_batch else [response.json()], changes, strict=True):
            before = self.rows[id or 0]
            self.store(row, {**before, **fields, "version": before["version"] + bool(fields)})

    def forget(self, id: int) -> None:
        """Move an id to those that are deleted for good."""
        del self.rows[id]
        self.deleted.append(id)

    @initialize(rows=st.lists(own("new_rows"), min_size=5, max_size=9))
    def fill(self, rows: list[Row]) -> None:
        for row in rows:  # one by one, as a batch with a row that is refused would create none
            self.create(row)

    @rule(row=own("new_rows"))
    def create(self, row: Row) -> None:
        self.created(self.ask("POST", self.path, row), [Change(None, row)], is_batch=False)

    @rule(rows=st.lists(own("new_rows"), min_size=1, max_size=5))
    def create_batch(self, rows: list[Row]) -> None:
        self.created(self.ask("POST", self.path, rows), [Change(None, row) for row in rows], is_batch=True)

    @rule(row=own("invalid_rows"), valid=st.lists(own("new_rows"), max_size=2))
    def create_invalid(self, row: Row, valid: list[Row]) -> None:
        assert code(self.ask("POST", self.path, row)) == (422, "invalid-body")
        assert code(self.ask("POST", self.path, [*valid, row])) == (422, "invalid-body")

    @rule(number=picks)
    def read(self, number: int) -> None:
        id = self.pick(number)
        response = self.ask("GET", f"{self.path}/{id}")
        if id in self.rows:
            assert response.json() == self.rows[id]
        else:
            assert code(response) == (404, f"{self.noun}-not-found")

    @rule(numbers=st.lists(picks, min_size=1, max_size=4))
    def read_batch(self, numbers: list[int]) -> None:
        ids = self.pick_several(numbers)
        assert self.ask("GET", self.ids_url(ids)).json() == [self.rows[id] for id in ids if id in self.rows]

    @rule(number=picks, row=own("new_rows"), condition=conditions)
    def replace(self, number: int, row: Row, condition: str) -> None:
        self.write_one("PUT", row, Change(self.pick(number), {**self.defaults, **row}, condition))

    @rule(number=picks, patch=own("patches"), condition=conditions)
    def update(self, number: int, patch: Row, condition: str) -> None:
        self.write_one("PATCH", patch, Change(self.pick(number), patch, condition))

    def write_one(self, method: str, body: Row, change: Change) -> None:
        """Write a row that may be there."""
        headers = {} if change.condition == "none" else {"if-match": f'"{self.version(change)}-json"'}
        response = self.ask(method, f"{self.path}/{change.id}", body, **headers)
        self.updated(response, [change], is_batch=False)

    @rule(chosen=st.lists(st.tuples(picks, own("patches"), conditions), min_size=1, max_size=4))
    def update_batch(self, chosen: list[tuple[int, Row, str]]) -> None:
        changes = {self.pick(number): (patch, condition) for number, patch, condition in chosen}
        self.write_batch([Change(id, *change) for id, change in changes.items()])

    def write_batch(self, changes: Sequence[Change]) -> None:
        """Write rows that may be there."""
        expected = [{} if change.condition == "none" else {"version": self.version(change)} for change in changes]
        body = [{"id": change.id, **change.fields, **each} for change, each in zip(changes, expected, strict=True)]
        self.updated(self.ask("PATCH", self.path, body), changes, is_batch=True)

    @rule(number=picks, condition=conditions)
    def delete(self, number: int, condition: str) -> None:
        change = Change(self.pick(number), {}, condition)
        headers = {} if condition == "none" else {"if-match": f'"{self.version(change)}-json"'}
        response = self.ask("DELETE", f"{self.path}/{change.id}", **headers)
        if not self.refuses(response, [change], is_batch=False):
            assert response.status_code == 204
            self.forget(change.id or 0)

    @rule(numbers=st.lists(picks, min_size=1, max_size=3))
    def delete_batch(self, numbers: list[int]) -> None:
        ids = self.pick_several(numbers)
        response = self.ask("DELETE", self.ids_url(ids))
        assert response.json() == [id for id in ids if id in self.rows]
        for id in response.json():
            self.forget(id)

    @rule(order=own("orders"), limit=st.integers(1, 4), filters=own("filters"))
    def walk(self, order: str, limit: int, filters: Row) -> None:
        field = order.removeprefix("-")
        expected = sorted(
            [row for row in self.rows.values() if self.matches(row, filters)],
            key=lambda row: (self.comparable(field, row[field]), row["id"]),
            reverse=order.startswith("-"),
        )
        sent = {name: str(value).lower() if isinstance(value, bool) else value for name, value in filters.items()}
        following: str | None = f"{self.path}?order={order}&limit={limit}&count=true&{httpx.QueryParams(sent)}"
        walked: list[Row] = []
        while following and len(walked) <= len(expected):
            response = self.ask("GET", following)
            assert response.headers.get("x-total-count", str(len(expected))) == str(len(expected))
            walked += response.json()
            following = next_url(response)
        assert walked == expected

    @invariant()
    def nothing_else_is_there(self) -> None:
        if len(self.rows) <= 1000:
            response = self.ask("GET", f"{self.path}?limit=1000&order=id")
            assert response.json() == [self.rows[id] for id in sorted(self.rows)]

    def teardown(self) -> None:
        if self.rows:
            self.ask("DELETE", self.ids_url(self.rows))


def run_model(model: type[Model], database_url: str, *, coalesce: bool) -> None:
    """Compare a service of its own with a model, in many orders of requests."""
    service = serving(Settings(database_url=database_url, coalesce=coalesce, **PATIENT))
    with asyncio.Runner() as runner:
        machine = type("Machine", (model,), {"client": runner.run(service.__aenter__()), "runner": runner})
        try:
            run_state_machine_as_test(machine, settings=SETTINGS)
        finally:
            runner.run(service.__aexit__(None, None, None))
