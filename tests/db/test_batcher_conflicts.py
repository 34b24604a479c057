"""Batchers: members whose result is a conflict with another transaction run again, and nobody else does."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from db.batching.batcher import CONFLICT_RETRIES_MAX
from db.batching.connections import BatchConnections
from db.batching.entry import Entry
from db.batching.observer import Retry, UnobservedBatches
from db.errors import SerializationFailure
from tests.support.pretending import PretendedDatabase, Result, Results, outcomes, send


@pytest.mark.parametrize("times", [1, CONFLICT_RETRIES_MAX, CONFLICT_RETRIES_MAX + 1])
async def test_a_member_that_conflicts_runs_again_without_the_others(times: int) -> None:
    database, runs = PretendedDatabase(), Counter[int]()

    def respond(members: Sequence[int]) -> Results:
        runs.update(members)
        return [
            SerializationFailure("it has moved on") if member == 2 and runs[2] <= times else Result(member)
            for member in members
        ]

    database.respond = respond
    async with database.batcher() as batcher:
        [first] = await send(database, batcher, 0)
        others = [batcher.submit(member) for member in (1, 2, 3)]
        database.let_go()
        last = SerializationFailure if times > CONFLICT_RETRIES_MAX else 2
        assert await outcomes([first, *others]) == [0, 1, last, 3]
    assert database.batches == [[0], [1, 2, 3], *[[2]] * min(times, CONFLICT_RETRIES_MAX)]
    assert len(set(database.tokens)) == len(database.batches)


async def test_a_member_that_conflicts_does_not_run_again_for_a_waiter_who_left() -> None:
    database = PretendedDatabase()
    database.respond = lambda members: [SerializationFailure("it has moved on") for _ in members]
    async with database.batcher() as batcher:
        waiters = await send(database, batcher, 0)
        waiters[0].cancel()
        database.let_go()
    assert database.batches == [[0]]


class Run(NamedTuple):
    """A run of a batch: when it began and ended, and since when its first member had waited."""

    waited_since: float
    started: float
    ended: float


class Recorder(UnobservedBatches):
    """Keeps what is told of runs and retries."""

    def __init__(self) -> None:
        self.told: list[Run | Retry] = []

    def ran(self, entries: Sequence[Entry[Any, Any]], started: float, ended: float) -> None:
        """Keep a run."""
        self.told.append(Run(entries[0].waits_since, started, ended))

    def retried(self, reason: Retry) -> None:
        """Keep a reason."""
        self.told.append(reason)


async def test_a_run_that_is_repeated_ends_before_the_pause_and_the_next_one_waits_from_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database, recorder, paused = PretendedDatabase(), Recorder(), list[int]()

    async def pause(*_: object) -> None:
        paused.append(len(recorder.told))

    def respond(members: Sequence[int]) -> Results:
        if len(database.batches) == 1:
            raise SerializationFailure("it has moved on")
        return [Result(member) for member in members]

    monkeypatch.setattr(BatchConnections, "pause", pause)
    database.respond = respond
    async with database.batcher(observer=recorder) as batcher:
        assert await outcomes([batcher.submit(1)]) == [1]
    reason, first, second = recorder.told
    assert (reason, paused) == (Retry.CONFLICT, [2])
    assert isinstance(first, Run)
    assert isinstance(second, Run)
    assert first.waited_since <= first.started <= first.ended <= second.waited_since <= second.started
    assert second.waited_since > first.waited_since
