"""The journal, its writers and its checker: kept promises look kept, and every broken one is found."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.faults.checker import Row, check, integrity_faults, read_rows
from tests.faults.journal import Event, Fields, Intent, Journal, Outcome, Reading, read
from tests.faults.workload import Habits
from tests.faults.writers import Writers
from tests.support.answers import execute
from tests.support.serving import ServiceProcess
from tests.support.waiting import wait_until

ONE, TWO = Row(1, "0-1.0", 1.0, True, 1), Row(2, "0-2.0", 2.0, True, 1)
OF_A_SET = [Row(10, "0-10.0", 1.0, True, 1), Row(11, "0-10.1", 1.0, True, 1)]


def made(number: int, *rows: Row, told: Any = "acknowledged") -> list[Event]:
    asked = [Fields(name=row.name, price=row.price, in_stock=row.in_stock) for row in rows]
    return [Intent(number=number, verb="add", items=asked), *outcome(number, *rows, told=told)]


def changed(number: int, row: Row, told: Any = "acknowledged", status: int = 200, **fields: Any) -> list[Event]:
    """Change an item to a row; without fields, to all of it."""
    asked = Fields(id=row.id, **(fields or {"name": row.name, "price": row.price, "in_stock": row.in_stock}))
    return [Intent(number=number, verb="change", items=[asked]), *outcome(number, row, told=told, status=status)]


def removed(number: int, row: Row, told: Any = "acknowledged", status: int = 200) -> list[Event]:
    intent = Intent(number=number, verb="remove", items=[Fields(id=row.id)])
    return [intent, *outcome(number, row, told=told, status=status)]


def outcome(number: int, *rows: Row, told: Any, status: int = 200) -> list[Event]:
    if told == "nothing":
        return []
    items = [msgspec.convert(row._asdict(), Fields) for row in rows] if told == "acknowledged" else []
    return [Outcome(number=number, told=told, status=status, items=items)]


def checked(path: Path, events: list[Event], rows: list[Row]) -> list[str]:
    with Journal(path / "journal") as journal:
        for event in events:
            journal.append(event)
    return check(path / "journal", rows)


CHANGED = ONE._replace(name="0-1.0~3", price=3.0, version=2)
AGAIN = CHANGED._replace(name="0-1.0~4", version=3)
BASE = [*made(1, ONE), *made(2, TWO)]
DOUBT = [*BASE, *changed(3, CHANGED, told="unknown")]


@pytest.mark.parametrize(
    ("events", "rows"),
    [
        (BASE, [ONE, TWO]),
        ([*BASE, *changed(3, CHANGED)], [CHANGED, TWO]),
        (DOUBT, [ONE, TWO]),
        (DOUBT, [CHANGED, TWO]),
        ([*BASE, *changed(3, CHANGED, told="nothing")], [CHANGED, TWO]),
        ([*DOUBT, *changed(4, AGAIN, name=AGAIN.name)], [AGAIN, TWO]),
        # The one in doubt came after the one that was acknowledged.
        (
            [*DOUBT, *changed(4, CHANGED._replace(name="0-1.0~4", price=1.0), name="0-1.0~4")],
            [CHANGED._replace(version=3), TWO],
        ),
        ([*BASE, *removed(3, ONE)], [TWO]),
        ([*BASE, *removed(3, ONE, told="unknown")], [TWO]),
        ([*BASE, *removed(3, ONE, told="unknown")], [ONE, TWO]),
        ([*BASE, *made(10, *OF_A_SET, told="unknown")], [ONE, TWO]),
        ([*BASE, *made(10, *OF_A_SET, told="unknown")], [ONE, TWO, *OF_A_SET]),
        ([*BASE, *made(10, *OF_A_SET, told="refused")], [ONE, TWO]),
        ([*BASE, *changed(3, CHANGED, told="refused")], [ONE, TWO]),
        ([*BASE, Reading(id=1, version=1), *removed(3, ONE), Reading(id=1, version=None)], [TWO]),
    ],
)
def test_what_may_be_is_no_fault(tmp_path: Path, events: list[Event], rows: list[Row]) -> None:
    assert checked(tmp_path, events, rows) == []


FAULTS: list[tuple[list[Event], list[Row], str]] = [
    (BASE, [TWO], "item 1 (0-1.0) is lost: write 1 was acknowledged"),
    (DOUBT, [TWO], "item 1 (0-1.0) is lost: write 1 was acknowledged"),
    ([*BASE, *made(10, *OF_A_SET)], [ONE, TWO, OF_A_SET[0]], "item 11 (0-10.1) is lost: write 10 was acknowledged"),
    (BASE, [ONE, TWO, ONE._replace(id=3, name="lamp")], "row 3 (lamp) is an item that nobody asked for"),
    ([*BASE, *removed(3, ONE)], [ONE, TWO], "item 1 (0-1.0) is there, and write 3 removed it"),
    (BASE, [ONE, TWO, ONE._replace(id=3)], "item 1 (0-1.0) is there 2 times: as [1, 3]"),
    (BASE, [ONE._replace(name="0-1.0~9", id=3), ONE, TWO], "item 1 (0-1.0) is there 2 times: as [1, 3]"),
    (
        made(10, *OF_A_SET, told="unknown"),
        [*OF_A_SET, OF_A_SET[0]._replace(id=3)],
        "item None (0-10.0) is there 2 times: as [3, 10]",
    ),
    (made(10, *OF_A_SET, told="unknown"), OF_A_SET[:1], "write 10 added 1 of 2 items"),
    (BASE, [ONE._replace(version=2), TWO], "item 1 (0-1.0) is in version 2, not 1"),
    (DOUBT, [CHANGED._replace(version=3), TWO], "item 1 (0-1.0) is in version 3, not 1 to 2"),
    ([*DOUBT, *changed(4, AGAIN)], [AGAIN._replace(version=4), TWO], "item 1 (0-1.0) is in version 4, not 3"),
    ([*BASE, *changed(3, CHANGED)], [ONE._replace(version=2, name=CHANGED.name), TWO], "has the price 1.0, not 3.0"),
    (DOUBT, [CHANGED._replace(price=7.0), TWO], "item 1 (0-1.0) has the price 7.0, not 1.0"),
    (DOUBT, [CHANGED._replace(version=1), TWO], "item 1 (0-1.0) has the price 3.0, not 1.0"),
    (made(1, ONE, told="refused"), [ONE], "row 1 (0-1.0) is there, and write 1 was refused"),
    (
        [*BASE, *changed(3, CHANGED, told="refused")],
        [CHANGED, TWO],
        "has the price 3.0, not 1.0, and write 3 was refused",
    ),
    (
        [*BASE, *removed(3, ONE, told="refused", status=503)],
        [TWO],
        "item 1 (0-1.0) is gone, and its removal was refused",
    ),
    ([*BASE, *removed(3, ONE, told="refused", status=404)], [ONE, TWO], "was not found by write 3, and must be there"),
    ([*BASE, *changed(3, CHANGED._replace(version=3))], [CHANGED, TWO], "acknowledged in version 3, not 2"),
    ([*BASE, *changed(3, CHANGED, price=4.0)], [CHANGED, TWO], "acknowledged with the price 3.0, not 4.0"),
    ([*BASE, *changed(3, CHANGED, name=CHANGED.name)], [CHANGED, TWO], "acknowledged with the price 3.0, not 1.0"),
    ([*BASE, Reading(id=1, version=2)], [ONE, TWO], "was read in version 2, not 1"),
    ([*BASE, Reading(id=1, version=None)], [ONE, TWO], "was read as gone, and must be there"),
    ([*BASE, *removed(3, ONE), Reading(id=1, version=1)], [TWO], "was read after write 3 removed it"),
]


@pytest.mark.parametrize(("events", "rows", "fault"), FAULTS)
def test_every_fault_is_found(tmp_path: Path, events: list[Event], rows: list[Row], fault: str) -> None:
    faults = checked(tmp_path, events, rows)
    assert any(fault in sentence for sentence in faults), faults


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
        journal.append(Reading(id=1, version=1))
    assert read(path) == [*BASE, Reading(id=1, version=1)]


async def test_outcomes_are_on_the_disk_before_their_writers_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[list[Event]] = []
    monkeypatch.setattr("os.fsync", lambda _: synced.append(read(tmp_path / "journal")))
    with Journal(tmp_path / "journal") as journal:

        async def settle(number: int) -> None:
            one = Outcome(number=number, told="refused")
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
    assert set(report.answers) == {"200", "201", "204"}
    assert 0 < report.latency_p50_s <= report.latency_p99_s <= report.latency_max_s <= report.unanswered_max_s
    rows = read_rows(database_url)
    assert rows
    assert check(tmp_path / "journal", rows) == []
    assert integrity_faults(database_url) == []
    verbs = {(event.verb, len(event.items) > 1) for event in read(tmp_path / "journal") if isinstance(event, Intent)}
    assert len(verbs) == 6
    some = rows[len(rows) // 2]
    assert check(tmp_path / "journal", [row for row in rows if row != some])
    assert check(tmp_path / "journal", [*rows, some._replace(id=10**9)])


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_writers_find_a_service_and_outlive_it(database_url: str, tmp_path: Path) -> None:
    nobody, habits = "http://127.0.0.1:1", Habits(keyed_share=0.0)
    with (
        ServiceProcess(database_url) as service,
        working([nobody, service.url], tmp_path, count=1, habits=habits) as writers,
    ):
        wait_until(acknowledged(writers, 50))
        service.kill()
        before = writers.report().answers["not sent"]
        wait_until(lambda: writers.report().answers["not sent"] > before + 5)
        report = writers.stop()
    assert report.outcomes["refused"]
    assert report.answers.get("unanswered", 0) >= report.outcomes.get("unknown", 0)
    assert check(tmp_path / "journal", read_rows(database_url)) == []
    assert integrity_faults(database_url) == []
