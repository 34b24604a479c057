"""A journal, read as a history: what each item must be now, and what it may be."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from tests.faults.journal import Event, Fields, Intent, Outcome, Reading, Told

OF_AN_ITEM = ("name", "price", "in_stock")


@dataclass
class Item:
    """An item that somebody asked for, by the part of its name that stays."""

    origin: str
    number: int  # of the write that is to make it
    told: Told
    fields: dict[str, Any]  # as last told
    id: int | None = None
    version: int = 1  # as last told
    changed_by: int = 0  # the last acknowledged write
    removal: Told | None = None
    removed_by: int = 0
    # Writes of unknown outcome. Each may have happened, and may be yet; those that the versions have counted have.
    doubts: dict[int, dict[str, Any]] = field(default_factory=dict)
    uncounted: int = 0
    refusals: dict[int, dict[str, Any]] = field(default_factory=dict)  # {} is a removal

    @property
    def versions(self) -> range:
        """What its version may be."""
        return range(self.version, self.version + self.uncounted + 1)

    def may_be(self, name: str, value: object, version: int) -> bool:
        """Whether a field may have this value, in this version."""
        doubts = self.doubts.values() if version > self.version else ()
        return value in {self.fields[name], *(fields[name] for fields in doubts if name in fields)}


class History:
    """The events of a journal, one after the other, and the faults that show in the answers alone."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.faults: list[str] = []
        self.items: dict[str, Item] = {}
        self._by_id: dict[int, Item] = {}
        self._open: dict[int, Intent] = {}
        for event in events:
            if isinstance(event, Intent):
                self._open[event.number] = event
            elif isinstance(event, Reading):
                self._read(event)
            else:
                self._settle(self._open.pop(event.number), event)
        for intent in self._open.values():  # whoever wrote has ended before the answer
            self._settle(intent, Outcome(number=intent.number, told="unknown"))

    def _settle(self, intent: Intent, outcome: Outcome) -> None:
        if intent.verb == "add":
            self._add(intent, outcome)
            return
        for item, asked in self._known(intent):
            if outcome.status == 404 and outcome.told == "refused" and item.removal is None and len(intent.items) == 1:
                self.faults.append(f"{called(item)} was not found by write {intent.number}, and must be there")
            if intent.verb == "remove":
                self._remove(item, intent, outcome)
            elif outcome.told == "refused":
                item.refusals[intent.number] = asked
            elif outcome.told == "unknown":
                item.doubts[intent.number] = asked
                item.uncounted += 1
            else:
                self._change(item, asked, outcome)

    def _known(self, intent: Intent) -> Iterator[tuple[Item, dict[str, Any]]]:
        for asked in intent.items:
            item = self._by_id.get(asked.id) if isinstance(asked.id, int) else None
            if item is None:
                self.faults.append(f"write {intent.number} is for an item that no write has made: {asked.id}")
            else:
                yield item, given(asked)

    def _add(self, intent: Intent, outcome: Outcome) -> None:
        if outcome.told == "acknowledged" and len(outcome.items) != len(intent.items):
            self.faults.append(f"write {intent.number} asked for {len(intent.items)} items and was given another count")
        for index, asked in enumerate(intent.items):
            item = Item(origin(str(asked.name)), intent.number, outcome.told, given(asked))
            self.items[item.origin] = item
            if index < len(outcome.items):
                told = outcome.items[index]
                item.id = told.id if isinstance(told.id, int) else None
                self._by_id[item.id or 0] = item
                self._compare(item, item.fields, told, range(1, 2))

    def _change(self, item: Item, asked: dict[str, Any], outcome: Outcome) -> None:
        told = next((one for one in outcome.items if one.id == item.id), None)
        if told is None or not isinstance(told.version, int):
            self.faults.append(f"{called(item)} is not in the answer to write {outcome.number}, which changed it")
            return
        self._compare(item, asked, told, range(item.versions.start + 1, item.versions.stop + 1))
        item.uncounted = max(0, item.uncounted - (told.version - item.version - 1))
        if not item.uncounted:
            item.doubts.clear()
        item.fields = {**item.fields, **given(told)}
        item.version, item.changed_by = told.version, outcome.number

    def _compare(self, item: Item, asked: dict[str, Any], told: Fields, versions: range) -> None:
        """See whether an answer is one to what was asked."""
        if told.version not in versions:
            self.faults.append(f"{called(item)} was acknowledged in version {told.version}, not {spoken(versions)}")
        for name, value in given(told).items():
            before = told.version - 1 if isinstance(told.version, int) else 0
            if value != asked[name] if name in asked else not item.may_be(name, value, before):
                right = asked.get(name, item.fields[name])
                self.faults.append(f"{called(item)} was acknowledged with the {name} {value!r}, not {right!r}")

    def _remove(self, item: Item, intent: Intent, outcome: Outcome) -> None:
        if outcome.told == "refused":
            item.refusals[intent.number] = {}
        elif item.removal != "acknowledged":
            item.removal, item.removed_by = outcome.told, intent.number
        if outcome.told == "acknowledged" and item.id not in {told.id for told in outcome.items}:
            self.faults.append(f"{called(item)} was not found by write {intent.number}, and must be there")

    def _read(self, reading: Reading) -> None:
        item = self._by_id.get(reading.id)
        if item is None:
            return
        if reading.version is None:
            if item.removal is None:
                self.faults.append(f"{called(item)} was read as gone, and must be there")
        elif item.removal == "acknowledged":
            self.faults.append(f"{called(item)} was read after write {item.removed_by} removed it")
        elif reading.version not in item.versions:
            self.faults.append(f"{called(item)} was read in version {reading.version}, not {spoken(item.versions)}")


def given(fields: Fields) -> dict[str, Any]:
    """Return those of an item's fields that are set."""
    values = structs.asdict(fields)
    return {name: values[name] for name in OF_AN_ITEM if isinstance(values[name], str | int | float)}


def origin(name: str) -> str:
    """Return the part of a name that stays when it is changed."""
    return name.partition("~")[0]


def called(item: Item) -> str:
    """Name an item as people look for it."""
    return f"item {item.id} ({item.origin})"


def spoken(versions: range) -> str:
    """Name the versions that are right."""
    return f"{versions[0]}" if len(versions) == 1 else f"{versions[0]} to {versions[-1]}"
