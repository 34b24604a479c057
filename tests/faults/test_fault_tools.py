"""The journal, its writers and its checker: kept promises look kept, and every broken one is found."""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec import structs

from tests.faults.checker import Row, check, integrity_faults, read_rows
from tests.faults.journal import Event, Fields, Intent, Journal, Outcome, Reading, read
from tests.faults.resources import ITEMS, RESOURCES, USERS, Resource
from tests.faults.workload import Habits
from tests.faults.writers import Writers
from tests.support.responses import execute
from tests.support.serving import ServiceProcess
from tests.support.waiting import wait_until


class Lamp(NamedTuple):
    """A row in terms of items, from which the same row of any resource is made."""

    id: int
    name: str
    price: float
    in_stock: bool
    version: int


ONE, TWO = Lamp(1, "0-1.0", 1.0, True, 1), Lamp(2, "0-2.0", 2.0, True, 1)
OF_A_BATCH = [Lamp(10, "0-10.0", 1.0, True, 1), Lamp(11, "0-10.1", 1.0, True, 1)]
TRANSLATIONS: dict[Resource, dict[str, str]] = {
    ITEMS: {},
    USERS: {"item": "user", "items": "users", "name": "username", "price": "email", "in_stock": "is_active"},
}
on_both_resources = pytest.mark.parametrize("resource", RESOURCES, ids=str)


def made(number: int, *lamps: Lamp, result: Any = "acknowledged") -> list[Event]:
    asked = [{"name": lamp.name, "price": lamp.price, "in_stock": lamp.in_stock} for lamp in lamps]
    intent = Intent(number=number, verb="create", path="/items", rows=asked)
    return [intent, *outcome(number, *lamps, result=result)]


def changed(number: int, lamp: Lamp, result: Any = "acknowledged", status: int = 200, **fields: Any) -> list[Event]:
    """Update a row; without fields, all of it."""
    given = fields or {"name": lamp.name, "price": lamp.price, "in_stock": lamp.in_stock}
    intent = Intent(number=number, verb="update", path="/items", rows=[{"id": lamp.id, **given}])
    return [intent, *outcome(number, lamp, result=result, status=status)]


def removed(number: int, lamp: Lamp, result: Any = "acknowledged", status: int = 200) -> list[Event]:
    intent = Intent(number=number, verb="delete", path="/items", rows=[{"id": lamp.id}])
    return [intent, *outcome(number, lamp, result=result, status=status)]


def seen(id: int, version: int | None) -> Reading:
    return Reading(path="/items", id=id, version=version)


def outcome(number: int, *lamps: Lamp, result: Any, status: int = 200) -> list[Event]:
    if result == "nothing":
        return []
    rows = [lamp._asdict() for lamp in lamps] if result == "acknowledged" else []
    return [Outcome(number=number, result=result, status=status, rows=rows)]


def translated(resource: Resource, fields: Fields) -> Fields:
    return {TRANSLATIONS[resource].get(name, name): value for name, value in fields.items()}


def of_resource(resource: Resource, event: Event) -> Event:
    changes: dict[str, Any] = {} if isinstance(event, Outcome) else {"path": resource.path}
    if not isinstance(event, Reading):
        changes["rows"] = [translated(resource, row) for row in event.rows]
    return structs.replace(event, **changes)


def stored(resource: Resource, lamp: Lamp) -> Row:
    fields = translated(resource, {"name": lamp.name, "price": lamp.price, "in_stock": lamp.in_stock})
    return Row(resource.path, lamp.id, lamp.version, fields)


def checked(path: Path, resource: Resource, events: list[Event], lamps: list[Lamp]) -> list[str]:
    with Journal(path / "journal") as journal:
        for event in events:
            journal.append(of_resource(resource, event))
    return check(path / "journal", [stored(resource, lamp) for lamp in lamps])


CHANGED = ONE._replace(name="0-1.0_3", price=3.0, version=2)
AGAIN = CHANGED._replace(name="0-1.0_4", version=3)
BASE = [*made(1, ONE), *made(2, TWO)]
DOUBT = [*BASE, *changed(3, CHANGED, result="unknown")]


@on_both_resources
@pytest.mark.parametrize(
    ("events", "lamps"),
    [
        (BASE, [ONE, TWO]),
        ([*BASE, *changed(3, CHANGED)], [CHANGED, TWO]),
        (DOUBT, [ONE, TWO]),
        (DOUBT, [CHANGED, TWO]),
        ([*BASE, *changed(3, CHANGED, result="nothing")], [CHANGED, TWO]),
        ([*DOUBT, *changed(4, AGAIN, name=AGAIN.name)], [AGAIN, TWO]),
        # The one in doubt came after the one that was acknowledged.
        (
            [*DOUBT, *changed(4, CHANGED._replace(name="0-1.0_4", price=1.0), name="0-1.0_4")],
            [CHANGED._replace(version=3), TWO],
        ),
        ([*BASE, *removed(3, ONE)], [TWO]),
        ([*BASE, *removed(3, ONE, result="unknown")], [TWO]),
        ([*BASE, *removed(3, ONE, result="unknown")], [ONE, TWO]),
        ([*BASE, *made(10, *OF_A_BATCH, result="unknown")], [ONE, TWO]),
        ([*BASE, *made(10, *OF_A_BATCH, result="unknown")], [ONE, TWO, *OF_A_BATCH]),
        ([*BASE, *made(10, *OF_A_BATCH, result="refused")], [ONE, TWO]),
        ([*BASE, *changed(3, CHANGED, result="refused")], [ONE, TWO]),
        ([*BASE, seen(1, 1), *removed(3, ONE), seen(1, None)], [TWO]),
    ],
)
def test_what_may_be_is_no_fault(tmp_path: Path, resource: Resource, events: list[Event], lamps: list[Lamp]) -> None:
    assert checked(tmp_path, resource, events, lamps) == []


FAULTS: list[tuple[list[Event], list[Lamp], str]] = [
    (BASE, [TWO], "item 1 (0-1.0) is lost: write 1 was acknowledged"),
    (DOUBT, [TWO], "item 1 (0-1.0) is lost: write 1 was acknowledged"),
    ([*BASE, *made(10, *OF_A_BATCH)], [ONE, TWO, OF_A_BATCH[0]], "item 11 (0-10.1) is lost: write 10 was acknowledged"),
    (BASE, [ONE, TWO, ONE._replace(id=3, name="lamp")], "row 3 of /items (lamp) is there, and no write asked for it"),
    ([*BASE, *removed(3, ONE)], [ONE, TWO], "item 1 (0-1.0) is there, and write 3 deleted it"),
    (BASE, [ONE, TWO, ONE._replace(id=3)], "item 1 (0-1.0) is there 2 times: as [1, 3]"),
    (BASE, [ONE._replace(name="0-1.0_9", id=3), ONE, TWO], "item 1 (0-1.0) is there 2 times: as [1, 3]"),
    (
        made(10, *OF_A_BATCH, result="unknown"),
        [*OF_A_BATCH, OF_A_BATCH[0]._replace(id=3)],
        "item None (0-10.0) is there 2 times: as [3, 10]",
    ),
    (made(10, *OF_A_BATCH, result="unknown"), OF_A_BATCH[:1], "write 10 created 1 of 2 rows"),
    (BASE, [ONE._replace(version=2), TWO], "item 1 (0-1.0) is in version 2, not 1"),
    (DOUBT, [CHANGED._replace(version=3), TWO], "item 1 (0-1.0) is in version 3, not 1 to 2"),
    ([*DOUBT, *changed(4, AGAIN)], [AGAIN._replace(version=4), TWO], "item 1 (0-1.0) is in version 4, not 3"),
    ([*BASE, *changed(3, CHANGED)], [ONE._replace(version=2, name=CHANGED.name), TWO], "has the price 1.0, not 3.0"),
    (DOUBT, [CHANGED._replace(price=7.0), TWO], "item 1 (0-1.0) has the price 7.0, not 1.0"),
    (DOUBT, [CHANGED._replace(version=1), TWO], "item 1 (0-1.0) has the price 3.0, not 1.0"),
    (made(1, ONE, result="refused"), [ONE], "item 1 (0-1.0) is there, and write 1 was refused"),
    (
        [*BASE, *changed(3, CHANGED, result="refused")],
        [CHANGED, TWO],
        "has the price 3.0, not 1.0, and write 3 was refused",
    ),
    (
        [*BASE, *removed(3, ONE, result="refused", status=503)],
        [TWO],
        "item 1 (0-1.0) is gone, and its deletion was refused",
    ),
    (
        [*BASE, *removed(3, ONE, result="refused", status=404)],
        [ONE, TWO],
        "was not found by write 3, and must be there",
    ),
    ([*BASE, *changed(3, CHANGED._replace(version=3))], [CHANGED, TWO], "acknowledged in version 3, not 2"),
    ([*BASE, *changed(3, CHANGED, price=4.0)], [CHANGED, TWO], "acknowledged with the price 3.0, not 4.0"),
    ([*BASE, *changed(3, CHANGED, name=CHANGED.name)], [CHANGED, TWO], "acknowledged with the price 3.0, not 1.0"),
    ([*BASE, seen(1, 2)], [ONE, TWO], "was read in version 2, not 1"),
    ([*BASE, seen(1, None)], [ONE, TWO], "was read as gone, and must be there"),
    ([*BASE, *removed(3, ONE), seen(1, 1)], [TWO], "was read after write 3 deleted it"),
]


@on_both_resources
@pytest.mark.parametrize(("events", "lamps", "fault"), FAULTS)
def test_every_fault_is_found(
    tmp_path: Path, resource: Resource, events: list[Event], lamps: list[Lamp], fault: str
) -> None:
    faults = checked(tmp_path, resource, events, lamps)
    words = TRANSLATIONS[resource]
    expected = re.sub(r"\w+", lambda word: words.get(word[0], word[0]), fault)
    assert any(expected in sentence for sentence in faults), faults


def test_rows_of_two_resources_with_the_same_ids_and_names_are_told_apart(tmp_path: Path) -> None:
    of_users = [of_resource(USERS, event) for event in made(3, ONE)]
    with Journal(tmp_path / "journal") as journal:
        for event in [*BASE, *of_users]:
            journal.append(event)
    rows = [stored(ITEMS, ONE), stored(ITEMS, TWO), stored(USERS, ONE)]
    assert check(tmp_path / "journal", rows) == []
    assert check(tmp_path / "journal", rows[:2]) == ["user 1 (0-1.0) is lost: write 3 was acknowledged"]
    assert check(tmp_path / "journal", rows[1:]) == ["item 1 (0-1.0) is lost: write 1 was acknowledged"]


@pytest.mark.parametrize("damage", ["readable", "whole"])
def test_a_file_that_is_damaged_is_found(tmp_path: Path, damage: str) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'items.db'}"
    asyncio.run(execute(url, "CREATE TABLE lamps (name TEXT)", "INSERT INTO lamps VALUES ('lamp')"))
    asyncio.run(execute(url, "CREATE INDEX by_name ON lamps (name)", "CREATE INDEX empty ON lamps (name) WHERE false"))
    assert integrity_faults(url) == []
    broken = "by_name" if damage == "readable" else "lamps"
    swap = f"UPDATE sqlite_schema SET rootpage = (SELECT max(rootpage) FROM sqlite_schema) WHERE name = '{broken}'"  # noqa: S608  # a name from above
    asyncio.run(execute(url, "PRAGMA writable_schema = ON", swap))
    faults = integrity_faults(url)
    assert faults
    assert all(sentence.startswith("the file is damaged: ") for sentence in faults)


def test_a_journal_goes_on_behind_its_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path) as journal:
        assert journal.number() == 1
        for event in BASE:
            journal.append(event)
    with path.open("ab") as file:
        file.write(b'{"type":"Int')
    assert read(path) == BASE
    with Journal(path) as journal:
        assert journal.number() == 3
        journal.append(seen(1, 1))
    assert read(path) == [*BASE, seen(1, 1)]


async def test_outcomes_are_on_the_disk_before_their_writers_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[list[Event]] = []
    monkeypatch.setattr("os.fsync", lambda _: synced.append(read(tmp_path / "journal")))
    with Journal(tmp_path / "journal") as journal:

        async def settle(number: int) -> None:
            one = Outcome(number=number, result="refused")
            await journal.settle(one)
            assert one in synced[-1]

        await asyncio.gather(*map(settle, range(100)))
        assert len(synced) < 5
        await settle(100)


@contextmanager
def working(url: str | list[str], path: Path, **options: Any) -> Iterator[Writers]:
    """Let writers work."""
    with Journal(path / "journal") as journal, Writers(url, journal, **options) as writers:
        yield writers


def acknowledged(writers: Writers, more: int) -> Callable[[], bool]:
    target = writers.report().acknowledged + more
    return lambda: writers.report().acknowledged >= target


def test_a_service_that_keeps_its_promises_is_found_to_do_so(database_url: str, tmp_path: Path) -> None:
    with ServiceProcess(database_url) as service, working(service.url, tmp_path, seed=7) as writers:
        wait_until(acknowledged(writers, 200))
        report = writers.stop()
    assert set(report.outcomes) == {"acknowledged"}, report
    assert set(report.responses) == {"200", "201", "204"}
    assert 0 < report.latency_p50_s <= report.latency_p99_s <= report.latency_max_s <= report.unanswered_max_s
    rows = read_rows(database_url)
    assert rows
    assert check(tmp_path / "journal", rows) == []
    assert integrity_faults(database_url) == []
    intents = [event for event in read(tmp_path / "journal") if isinstance(event, Intent)]
    assert len({(intent.path, intent.verb, len(intent.rows) > 1) for intent in intents}) == 6 * len(RESOURCES)
    for resource in RESOURCES:
        some = next(row for row in rows if row.path == resource.path)
        assert check(tmp_path / "journal", [row for row in rows if row != some])
        assert check(tmp_path / "journal", [*rows, some._replace(id=10**9)])


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_writers_find_a_service_and_outlive_it(database_url: str, tmp_path: Path) -> None:
    nowhere, habits = "http://127.0.0.1:1", Habits(keyed_share=0.0)
    with (
        ServiceProcess(database_url) as service,
        working([nowhere, service.url], tmp_path, count=1, habits=habits) as writers,
    ):
        wait_until(acknowledged(writers, 50))
        service.kill()
        before = writers.report().responses["not sent"]
        wait_until(lambda: writers.report().responses["not sent"] > before + 5)
        report = writers.stop()
    assert report.outcomes["refused"]
    assert report.responses.get("unanswered", 0) >= report.outcomes.get("unknown", 0)
    assert check(tmp_path / "journal", read_rows(database_url)) == []
    assert integrity_faults(database_url) == []
