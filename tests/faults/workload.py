"""What a writer does: a mix of everything, to items that nobody else touches."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

import msgspec

from tests.faults.journal import Fields, Intent, Told, Verb

OWN_MAX = 40
MIX = {
    "add": 20,
    "add_set": 8,
    "replace": 10,
    "patch": 14,
    "patch_set": 8,
    "remove": 8,
    "remove_set": 4,
    "read": 28,
}
NEEDS_SEVERAL = {"patch_set", "remove_set"}
SET_SIZES = range(2, 6)


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
    items: Sequence[Mapping[str, Any]]


class Habits(NamedTuple):
    """How writers go about it."""

    keyed_share: float = 0.5  # of the writes, that have an Idempotency-Key
    mix: Mapping[str, int] = MIX
    headers: Mapping[str, str] = {}  # with every request
    pause_s: float = 0.0  # between two requests
    answer_s: float = 10.0  # how long an attempt may take
    patience_s: float = 30.0  # how long one with a key is repeated


USUAL = Habits()


class Workload:
    """The requests of one writer, each drawn when the one before is answered.

    Names tell where items come from: `seed-number.index`, the number of the write that made it, and after a change
    `~` and the number of that. So an item that was made twice is seen, whatever became of it.
    """

    def __init__(self, random: Random, number: Callable[[], int], prefix: str, habits: Habits) -> None:
        self._random = random
        self._number = number
        self._prefix = prefix
        self._habits = habits
        self._mine: dict[int, str] = {}  # by id, the part of the name that stays

    def next(self) -> Request:
        """Draw a request."""
        draws = dict(self._habits.mix)
        if len(self._mine) >= OWN_MAX:
            draws |= {"add": 0, "add_set": 0, "remove": draws.get("remove", 0) + 1}
        kind = self._random.choices(list(draws), list(draws.values()))[0]
        if len(self._mine) < (max(SET_SIZES) if kind in NEEDS_SEVERAL else 1):
            kind = "add_set" if kind in NEEDS_SEVERAL else "add"
        request: Request = getattr(self, f"_{kind}")()
        return request

    def told(self, intent: Intent, told: Told, status: int | None, items: Sequence[Fields]) -> None:
        """Learn what became of a write."""
        ids = [item.id for item in intent.items if isinstance(item.id, int)]
        # An item whose state is not known is still written to, or left as it is; one that may be gone is left.
        leaves = intent.verb == "remove" or self._random.random() < 0.5
        if intent.verb == "add":
            names = zip(items, intent.items, strict=False) if told == "acknowledged" else ()
            self._mine |= {item.id: str(asked.name) for item, asked in names if isinstance(item.id, int)}
        elif (told == "acknowledged" and intent.verb == "remove") or (told == "unknown" and leaves) or status == 404:
            for id in ids:
                self._mine.pop(id, None)

    def _add(self) -> Request:
        number = self._number()
        item = self._new(f"{self._prefix}-{number}.0")
        return self._request("POST", "/items", Meaning("add", number, [item]), item)

    def _add_set(self) -> Request:
        number = self._number()
        items = [self._new(f"{self._prefix}-{number}.{index}") for index in range(self._random.choice(SET_SIZES))]
        return self._request("POST", "/items", Meaning("add", number, items), items)

    def _replace(self) -> Request:
        [id], number = self._some(1), self._number()
        fields = self._new(f"{self._mine[id]}~{number}")
        return self._request("PUT", f"/items/{id}", Meaning("change", number, [{"id": id, **fields}]), fields)

    def _patch(self) -> Request:
        [id], number = self._some(1), self._number()
        patch = self._changed(id, number)
        return self._request("PATCH", f"/items/{id}", Meaning("change", number, [{"id": id, **patch}]), patch)

    def _patch_set(self) -> Request:
        ids, number = self._some(), self._number()
        patches = [{"id": id, **self._changed(id, number)} for id in ids]
        return self._request("PATCH", "/items", Meaning("change", number, patches), patches)

    def _remove(self) -> Request:
        [id] = self._some(1)
        return self._request("DELETE", f"/items/{id}", Meaning("remove", self._number(), [{"id": id}]))

    def _remove_set(self) -> Request:
        ids = self._some()
        path = f"/items?ids={','.join(map(str, ids))}"
        return self._request("DELETE", path, Meaning("remove", self._number(), [{"id": id} for id in ids]))

    def _read(self) -> Request:
        [id] = self._some(1)
        return Request("GET", f"/items/{id}")

    def _some(self, count: int = 0) -> list[int]:
        return self._random.sample(sorted(self._mine), count or self._random.choice(SET_SIZES))

    def _new(self, name: str) -> dict[str, Any]:
        # Quarters: the same number in every representation.
        return {"name": name, "price": self._random.randrange(4000) / 4, "in_stock": self._random.random() < 0.5}

    def _changed(self, id: int, number: int) -> dict[str, Any]:
        fields = self._new(f"{self._mine[id]}~{number}")
        kept = self._random.sample(sorted(fields), self._random.randint(1, len(fields)))
        return {name: fields[name] for name in kept}

    def _request(self, method: str, path: str, meaning: Meaning, body: Any = None) -> Request:
        key = f"{self._prefix}-{meaning.number}" if self._random.random() < self._habits.keyed_share else None
        items = msgspec.convert(meaning.items, list[Fields])
        intent = Intent(number=meaning.number, verb=meaning.verb, items=items, key=key)
        return Request(method, path, None if body is None else msgspec.json.encode(body), intent)
