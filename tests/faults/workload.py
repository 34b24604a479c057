"""What a writer does: a mix of every verb, on rows that no other writer touches."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

import msgspec

from tests.faults.history import SEPARATOR
from tests.faults.journal import Fields, Intent, Result, Verb
from tests.faults.resources import Body, Resource

OWN_MAX = 40
MIX = {
    "create": 20,
    "create_batch": 8,
    "replace": 10,
    "update": 14,
    "update_batch": 8,
    "delete": 8,
    "delete_batch": 4,
    "read": 28,
}
NEEDS_SEVERAL = {"update_batch", "delete_batch"}
BATCH_SIZES = range(2, 6)
WRITES_MAX = 10**8  # of a seed


class Request(NamedTuple):
    """A request, and what it means; a read means nothing."""

    method: str
    path: str
    body: bytes | None = None
    intent: Intent | None = None


class Meaning(NamedTuple):
    """What a write is to do."""

    verb: Verb
    number: int
    rows: Sequence[Fields]


class Habits(NamedTuple):
    """How writers go about it."""

    keyed_share: float = 0.5  # of the writes, that have an Idempotency-Key
    mix: Mapping[str, int] = MIX
    headers: Mapping[str, str] = {}  # with every request
    pause_s: float = 0.0  # between two requests
    response_s: float = 10.0  # how long an attempt may take
    patience_s: float = 30.0  # how long one with a key is repeated


USUAL = Habits()


class Workload:
    """The requests of one writer for one resource, each drawn after the response to the one before.

    Names tell where rows come from: `seed-number.index`, the number of the write that created it, and after an update
    `_` and the number of that. So a row that was created twice is seen, whatever became of it.
    """

    def __init__(
        self, resource: Resource, random: Random, number: Callable[[], int], seed: int, habits: Habits
    ) -> None:
        self._resource = resource
        self._path = resource.path
        self._random = random
        self._number = number
        self._seed = seed
        self._habits = habits
        self._mine: dict[int, str] = {}  # by id, the part of the name that stays

    def next(self) -> Request:
        """Draw a request."""
        draws = dict(self._habits.mix)
        if len(self._mine) >= OWN_MAX:
            draws |= {"create": 0, "create_batch": 0, "delete": draws.get("delete", 0) + 1}
        kind = self._random.choices(list(draws), list(draws.values()))[0]
        if len(self._mine) < (max(BATCH_SIZES) if kind in NEEDS_SEVERAL else 1):
            kind = "create_batch" if kind in NEEDS_SEVERAL else "create"
        request: Request = getattr(self, f"_{kind}")()
        return request

    def settle(self, intent: Intent, result: Result, status: int | None, rows: Sequence[Fields]) -> None:
        """Learn what became of a write."""
        # A row whose state is not known is still written to, or left as it is; one that may be gone is left.
        leaves = intent.verb == "delete" or self._random.random() < 0.5
        if intent.verb == "create":
            asked = zip(rows, intent.rows, strict=False) if result == "acknowledged" else ()
            self._mine |= {row["id"]: one[self._resource.named_by] for row, one in asked}
        elif (
            (result == "acknowledged" and intent.verb == "delete") or (result == "unknown" and leaves) or status == 404
        ):
            for row in intent.rows:
                self._mine.pop(row["id"], None)

    def _create(self) -> Request:
        number = self._number()
        [row] = self._new(number, 1)
        return self._request("POST", self._path, Meaning("create", number, [row]), row)

    def _create_batch(self) -> Request:
        number = self._number()
        rows = self._new(number, self._random.choice(BATCH_SIZES))
        return self._request("POST", self._path, Meaning("create", number, rows), rows)

    def _replace(self) -> Request:
        [id], number = self._some(1), self._number()
        fields = self._body(f"{self._mine[id]}{SEPARATOR}{number}", number)
        return self._request("PUT", f"{self._path}/{id}", Meaning("update", number, [{"id": id, **fields}]), fields)

    def _update(self) -> Request:
        [id], number = self._some(1), self._number()
        patch = self._patch(id, number)
        return self._request("PATCH", f"{self._path}/{id}", Meaning("update", number, [{"id": id, **patch}]), patch)

    def _update_batch(self) -> Request:
        ids, number = self._some(), self._number()
        patches = [{"id": id, **self._patch(id, number, index)} for index, id in enumerate(ids)]
        return self._request("PATCH", self._path, Meaning("update", number, patches), patches)

    def _delete(self) -> Request:
        [id] = self._some(1)
        return self._request("DELETE", f"{self._path}/{id}", Meaning("delete", self._number(), [{"id": id}]))

    def _delete_batch(self) -> Request:
        ids = self._some()
        path = f"{self._path}?ids={','.join(map(str, ids))}"
        return self._request("DELETE", path, Meaning("delete", self._number(), [{"id": id} for id in ids]))

    def _read(self) -> Request:
        [id] = self._some(1)
        return Request("GET", f"{self._path}/{id}")

    def _some(self, count: int = 0) -> list[int]:
        return self._random.sample(sorted(self._mine), count or self._random.choice(BATCH_SIZES))

    def _new(self, number: int, count: int) -> list[Body]:
        return [self._body(f"{self._seed}-{number}.{index}", number, index) for index in range(count)]

    def _body(self, name: str, number: int, index: int = 0) -> Body:
        place = (self._seed * WRITES_MAX + number) * max(BATCH_SIZES) + index  # which no other row of a write has
        return self._resource.body(name, place)

    def _patch(self, id: int, number: int, index: int = 0) -> Body:
        fields = self._body(f"{self._mine[id]}{SEPARATOR}{number}", number, index)
        kept = self._random.sample(sorted(fields), self._random.randint(1, len(fields)))
        return {name: fields[name] for name in kept}

    def _request(self, method: str, path: str, meaning: Meaning, body: Any = None) -> Request:
        key = f"{self._seed}-{meaning.number}" if self._random.random() < self._habits.keyed_share else None
        verb, number, rows = meaning
        intent = Intent(number=number, verb=verb, path=self._path, rows=list(rows), key=key)
        return Request(method, path, None if body is None else msgspec.json.encode(body), intent)
