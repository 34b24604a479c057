"""Connections that are cut around a commit: the short form of tests/faults/cuts.py."""

import asyncio

import httpx
import pytest

from tests.faults.cuts import (
    PHASES,
    POST,
    TRIALS,
    Row,
    Service,
    Write,
    cut_crowds,
    cut_finding_out,
    cut_for_a_long_outage,
    cut_for_a_short_outage,
    cut_writes,
)
from tests.faults.resources import RESOURCES

on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)

# Each kind of write in each phase, of one resource with a key, and of the other without.
MIXED = [one for one in TRIALS if one.kind.resource is RESOURCES[(PHASES.index(one.phase) + one.keyed) % 2]]
SOME = MIXED[1::7]  # of both resources, every phase, with and without a key
CREATIONS = [trial for trial in MIXED if (trial.kind.method, trial.kind.size) == ("POST", None)]


@on_postgresql
def test_every_response_is_what_the_database_has_whenever_its_connection_was_cut(database_url: str) -> None:
    figures = cut_writes(database_url, 1, trials=MIXED)
    assert (figures["cuts"], figures["wrong"]) == (len(MIXED), 0)
    assert set(figures["repeats"]) == {"200", "201", "204"}


@on_postgresql
def test_so_it_is_if_the_query_for_the_commit_record_is_cut_as_well(database_url: str) -> None:
    assert cut_finding_out(database_url, 1, SOME)["cuts"] == 2 * len(SOME)


@on_postgresql
def test_so_it_is_if_the_database_is_away_for_a_short_time(database_url: str) -> None:
    responses = cut_for_a_short_outage(database_url, 1, SOME[:2])["by kind"]
    assert {name for counted in responses.values() for name in counted} <= {"200", "201", "204"}


@on_postgresql
def test_after_an_outage_that_outlasts_the_deadline_nothing_changes_any_more(database_url: str) -> None:
    responses = cut_for_a_long_outage(database_url, 1, SOME[-2:])["by kind"]
    assert "503 commit-outcome-unknown" in {name for counted in responses.values() for name in counted}


@on_postgresql
def test_the_response_is_true_for_every_client_of_a_shared_batch_that_is_cut(database_url: str) -> None:
    assert cut_crowds(database_url, 1, CREATIONS)["cuts"] == len(CREATIONS)


WRITE = Write(POST, "/items", None, {}, {"lamp": Row(None, 1.0, 1)})
THERE = {"lamp": Row(7, 1.0, 1)}
UNKNOWN = {"code": "commit-outcome-unknown"}


@pytest.mark.parametrize(
    ("status", "body", "rows"),
    [
        (201, {"id": 7, "name": "lamp", "price": 1.0, "version": 1}, {}),
        (201, {"id": 8, "name": "lamp", "price": 1.0, "version": 1}, THERE),
        (201, {"id": 7, "name": "lamp", "price": 1.0, "version": 2}, THERE),
        (503, {"code": "unavailable"}, THERE),
        (504, {"code": "timeout"}, THERE),
        (503, UNKNOWN, THERE),
        (503, UNKNOWN, {}),
        (500, {"code": "internal-error"}, {}),
        (404, {"code": "item-not-found"}, {}),
    ],
)
def test_a_response_that_is_not_what_the_database_has_is_found(
    status: int, body: dict[str, object], rows: dict[str, Row]
) -> None:
    assert WRITE.fault(httpx.Response(status, json=body), rows)


@on_postgresql
def test_a_row_that_is_there_twice_is_found(database_url: str) -> None:
    async def run() -> str | None:
        async with Service(database_url) as service:
            write = await service.write(POST)
            response = await service.send(write)
            assert write.fault(response, await service.rows(write)) is None
            await service.insert(write.kind.resource, write.after)
            return write.fault(response, await service.rows(write))

    assert asyncio.run(run())
