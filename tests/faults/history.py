"""A journal, read as a history: what each row must be now, and what it may be."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.faults.journal import Event, Fields, Intent, Outcome, Reading, Result
from tests.faults.resources import BY_PATH, Resource

SEPARATOR = "_"  # before the number of an update, in a name; usernames may have it, too


@dataclass
class Expected:
    """A row that a write asked for, by the part of its name that stays."""

    resource: Resource
    origin: str
    number: int  # of the write that is to create it
    result: Result
    fields: Fields  # as last acknowledged
    id: int | None = None
    version: int = 1  # as last acknowledged
    updated_by: int = 0  # the last acknowledged write
    deletion: Result | None = None
    deleted_by: int = 0
    # Writes of unknown outcome. Each may have happened, and may be yet; those that the versions have counted have.
    doubts: dict[int, Fields] = field(default_factory=dict)
    uncounted: int = 0
    refusals: dict[int, Fields] = field(default_factory=dict)  # {} is a deletion

    def __str__(self) -> str:
        return f"{self.resource.noun} {self.id} ({self.origin})"

    @property
    def versions(self) -> range:
        """What its version may be."""
        return range(self.version, self.version + self.uncounted + 1)

    def may_be(self, name: str, value: object, version: int) -> bool:
        """Return whether a field may have this value, in this version."""
        doubts = self.doubts.values() if version > self.version else ()
        return value in {self.fields[name], *(fields[name] for fields in doubts if name in fields)}

    def given(self, fields: Fields) -> Fields:
        """Return those of the fields that writers set."""
        return {name: fields[name] for name in self.resource.fields if name in fields}


class History:
    """The events of a journal, one after the other, and the broken promises that show in the responses alone."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.faults: list[str] = []
        self.rows: dict[tuple[str, str], Expected] = {}  # by path and origin
        self._by_id: dict[tuple[str, int], Expected] = {}  # by path and id
        self._open: dict[int, Intent] = {}
        for event in events:
            if isinstance(event, Intent):
                self._open[event.number] = event
            elif isinstance(event, Reading):
                self._read(event)
            else:
                self._settle(self._open.pop(event.number), event)
        for intent in self._open.values():  # their writers ended before the response
            self._settle(intent, Outcome(number=intent.number, result="unknown"))

    def _settle(self, intent: Intent, outcome: Outcome) -> None:
        if intent.verb == "create":
            self._create(intent, outcome)
            return
        for row, asked in self._known(intent):
            if outcome.status == 404 and outcome.result == "refused" and row.deletion is None and len(intent.rows) == 1:
                self.faults.append(f"{row} was not found by write {intent.number}, and must be there")
            if intent.verb == "delete":
                self._delete(row, intent, outcome)
            elif outcome.result == "refused":
                row.refusals[intent.number] = asked
            elif outcome.result == "unknown":
                row.doubts[intent.number] = asked
                row.uncounted += 1
            else:
                self._update(row, asked, outcome)

    def _known(self, intent: Intent) -> Iterator[tuple[Expected, Fields]]:
        for asked in intent.rows:
            row = self._by_id.get((intent.path, asked["id"]))
            if row is None:
                self.faults.append(f"write {intent.number} is for a row that no write has created: {asked['id']}")
            else:
                yield row, row.given(asked)

    def _create(self, intent: Intent, outcome: Outcome) -> None:
        if outcome.result == "acknowledged" and len(outcome.rows) != len(intent.rows):
            self.faults.append(f"write {intent.number} asked for {len(intent.rows)} rows and was given another count")
        resource = BY_PATH[intent.path]
        for index, asked in enumerate(intent.rows):
            row = Expected(resource, origin(asked[resource.named_by]), intent.number, outcome.result, asked)
            self.rows[intent.path, row.origin] = row
            if index < len(outcome.rows):
                answered = outcome.rows[index]
                row.id = answered["id"]
                self._by_id[intent.path, row.id or 0] = row
                self._compare(row, row.fields, answered, range(1, 2))

    def _update(self, row: Expected, asked: Fields, outcome: Outcome) -> None:
        answered = next((one for one in outcome.rows if one["id"] == row.id), None)
        if answered is None or "version" not in answered:
            self.faults.append(f"{row} is not in the response to write {outcome.number}, which updated it")
            return
        self._compare(row, asked, answered, range(row.versions.start + 1, row.versions.stop + 1))
        row.uncounted = max(0, row.uncounted - (answered["version"] - row.version - 1))
        if not row.uncounted:
            row.doubts.clear()
        row.fields = {**row.fields, **row.given(answered)}
        row.version, row.updated_by = answered["version"], outcome.number

    def _compare(self, row: Expected, asked: Fields, answered: Fields, versions: range) -> None:
        """Compare a response with the request."""
        version = answered.get("version")
        if version not in versions:
            self.faults.append(f"{row} was acknowledged in version {version}, not {spoken(versions)}")
        for name, value in row.given(answered).items():
            if value != asked[name] if name in asked else not row.may_be(name, value, (version or 1) - 1):
                right: Any = asked.get(name, row.fields[name])
                self.faults.append(f"{row} was acknowledged with the {name} {value!r}, not {right!r}")

    def _delete(self, row: Expected, intent: Intent, outcome: Outcome) -> None:
        if outcome.result == "refused":
            row.refusals[intent.number] = {}
        elif row.deletion != "acknowledged":
            row.deletion, row.deleted_by = outcome.result, intent.number
        if outcome.result == "acknowledged" and row.id not in {one["id"] for one in outcome.rows}:
            self.faults.append(f"{row} was not found by write {intent.number}, and must be there")

    def _read(self, reading: Reading) -> None:
        row = self._by_id.get((reading.path, reading.id))
        if row is None:
            return
        if reading.version is None:
            if row.deletion is None:
                self.faults.append(f"{row} was read as gone, and must be there")
        elif row.deletion == "acknowledged":
            self.faults.append(f"{row} was read after write {row.deleted_by} deleted it")
        elif reading.version not in row.versions:
            self.faults.append(f"{row} was read in version {reading.version}, not {spoken(row.versions)}")


def origin(name: str) -> str:
    """Return the part of a name that stays when it is updated."""
    return name.partition(SEPARATOR)[0]


def spoken(versions: range) -> str:
    """Return the versions that are right as people write them."""
    return f"{versions[0]}" if len(versions) == 1 else f"{versions[0]} to {versions[-1]}"
