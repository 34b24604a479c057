"""Batchers: members whose result is a conflict with another transaction run again, and nobody else does."""

from collections import Counter
from collections.abc import Sequence

import pytest

from db.batching.batcher import CONFLICT_RETRIES_MAX
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
