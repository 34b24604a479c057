"""How often an authenticator asks the database, how much it keeps, and which uses of tokens it records."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest

from db.errors import Overloaded, Unavailable
from service.auth import authenticator as module
from service.auth import token_uses
from service.auth.pace import MISSES_MAX
from service.auth.token_text import new_token
from tests.support.callers import LIFE_S, Callers, opened
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def test_an_unknown_token_is_looked_up_once_in_a_life(callers: Callers) -> None:
    token = new_token()
    for _ in range(100):
        assert await callers.who(token) is None
    assert callers.tokens.lookups == 1
    callers.pass_s(LIFE_S)
    assert await callers.who(token) is None
    assert callers.tokens.lookups == 2


async def test_ten_thousand_unknown_tokens_cause_a_bounded_number_of_statements(
    callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REFUSED_MAX", 1000)
    known = callers.tokens.issue(7)
    assert await callers.who(known)
    for _ in range(10):
        assert not any(await asyncio.gather(*(callers.who(new_token()) for _ in range(1000))))
    # Those that start at once, then a few moments at which all that wait do.
    assert callers.tokens.statements < MISSES_MAX + 100
    assert len(callers.authenticator._refused) == 1000
    lookups = callers.tokens.lookups
    assert await callers.who(known)
    assert await callers.who(callers.tokens.issue(8))  # a new token comes in meanwhile
    assert callers.tokens.lookups == lookups + 1


async def test_what_is_kept_is_bounded_and_the_oldest_goes_first(
    callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KNOWN_MAX", 3)
    tokens = [callers.tokens.issue(number) for number in range(1, 5)]
    for token in tokens:
        assert await callers.who(token)
    assert len(callers.authenticator._known) == 3
    assert callers.authenticator.known(f"Bearer {tokens[0]}".encode()) is None
    assert callers.authenticator.known(f"Bearer {tokens[1]}".encode()) is not None


async def test_look_ups_at_the_same_time_are_bounded_and_known_tokens_are_served(
    callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOKUPS_MAX", 2)
    known = callers.tokens.issue(7)
    assert await callers.who(known)
    callers.tokens.gate.clear()
    waiting = [asyncio.create_task(callers.who(new_token())) for _ in range(2)]
    await until(lambda: callers.tokens.lookups == 3)
    with pytest.raises(Overloaded):
        await callers.who(new_token())
    callers.pass_s(LIFE_S * 0.9)
    assert await callers.who(known)  # which is looked up again, beside those
    await until(lambda: callers.tokens.lookups == 4)
    callers.pass_s(LIFE_S * 0.2)
    again = asyncio.create_task(callers.who(known))  # no Overloaded, though its time is over
    callers.tokens.gate.set()
    assert await again
    await asyncio.gather(*waiting)


async def test_what_was_looked_up_long_before_a_request_is_not_believed(callers: Callers) -> None:
    token = callers.tokens.issue(7)
    callers.tokens.gate.clear()
    early = asyncio.create_task(callers.who(token))
    await until(lambda: callers.tokens.lookups == 1)
    callers.pass_s(LIFE_S + 1)
    late = asyncio.create_task(callers.who(token))
    await asyncio.sleep(0)
    callers.tokens.gate.set()
    assert await early
    assert await late
    assert callers.tokens.lookups == 2  # one more, for the late one


async def test_uses_are_recorded_together_and_at_the_end() -> None:
    async with opened() as callers:
        first, second = callers.tokens.issue(1), callers.tokens.issue(2)
        for token in (first, second, first):
            callers.pass_s(1)
            await callers.who(token)
        assert callers.tokens.uses == []
    last = datetime.fromtimestamp(callers.wall_clock.now, UTC)
    assert callers.tokens.uses == [{1: last, 2: last - timedelta(seconds=1)}]


async def test_a_refused_token_is_not_recorded_as_used() -> None:
    async with opened() as callers:
        token = callers.tokens.issue(1, is_active=False)
        assert await callers.who(token) is None
    assert callers.tokens.uses == []


async def test_uses_that_could_not_be_recorded_are_recorded_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with opened() as callers:
        token = callers.tokens.issue(1)
        await callers.who(token)
        callers.tokens.error = Unavailable("away")
        with caplog.at_level(logging.WARNING):
            await callers.authenticator._uses.write()
        assert "could not be recorded: away" in caplog.text
        callers.tokens.error = None
    assert [list(times) for times in callers.tokens.uses] == [[1]]


async def test_the_recording_of_uses_outlives_any_error() -> None:
    async with opened() as callers:
        await callers.who(callers.tokens.issue(1))
        callers.tokens.error = RuntimeError("unforeseen")
        await callers.authenticator._uses.write()
        callers.tokens.error = None
    assert [list(times) for times in callers.tokens.uses] == [[1]]


async def test_many_tokens_are_recorded_before_the_interval_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_uses, "TOKENS_MAX", 10)
    async with opened() as callers:
        for number in range(1, 12):
            await callers.who(callers.tokens.issue(number))
        await until(lambda: bool(callers.tokens.uses))
