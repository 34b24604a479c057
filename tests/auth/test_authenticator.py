"""What an authenticator keeps, and for how long; its clocks are the test's."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from db.errors import Unavailable
from service.auth.principal import Principal, principal_of
from tests.support.callers import LIFE_S, Callers
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def test_a_token_is_looked_up_once_and_known_from_then_on(callers: Callers) -> None:
    token = callers.tokens.issue(7, "reader")
    for _ in range(100):
        assert await callers.who(token) == principal_of(7, "reader")
    assert callers.tokens.lookups == 1
    assert callers.authenticator.known(f"Bearer {token}".encode()) is not None


async def test_however_the_scheme_is_written_a_token_is_kept_once(callers: Callers) -> None:
    token = callers.tokens.issue(7)
    for scheme in ("bearer", "BEARER", "Bearer  ", "bEARER     "):
        assert (await callers.authenticator.authenticate(f"{scheme} {token}".encode())).principal.user_id == 7
    assert callers.tokens.lookups == 1
    assert len(callers.authenticator._known) == 1


async def test_requests_that_come_at_the_same_time_share_one_look_up(callers: Callers) -> None:
    token = callers.tokens.issue(7)
    callers.tokens.gate.clear()
    requests = [asyncio.create_task(callers.who(token)) for _ in range(50)]
    await until(lambda: callers.tokens.lookups == 1)
    requests[0].cancel()  # its client is gone: the others wait on
    callers.tokens.gate.set()
    results = await asyncio.gather(*requests, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(isinstance(each, Principal) for each in results[1:])
    assert callers.tokens.lookups == 1


async def test_tokens_with_one_prefix_are_told_apart_by_their_digest(callers: Callers) -> None:
    token, other = callers.tokens.issue(1), callers.tokens.issue(2)
    callers.tokens._by_prefix[token[:12]].insert(0, other)
    found = await callers.who(token)
    assert found is not None
    assert found.user_id == 1


@pytest.mark.parametrize("change", [{"is_active": False}, {"role": "reader"}, None])
async def test_a_change_counts_after_its_life_at_the_latest_and_under_load_after_half_of_it(
    callers: Callers, change: dict[str, object] | None
) -> None:
    token = callers.tokens.issue(7, "writer")
    before = await callers.who(token)
    if change is None:
        callers.tokens.revoke(token)
    else:
        callers.tokens.change(token, **change)
    callers.pass_s(LIFE_S / 2 - 0.01)
    assert await callers.who(token) == before
    callers.pass_s(0.02)
    assert await callers.who(token) == before  # and begins a look-up
    await callers.settled()
    after = await callers.who(token)
    assert after is None or after.role == "reader"
    assert callers.tokens.lookups == 2


async def test_a_token_that_was_not_used_meanwhile_is_looked_up_before_it_is_believed_again(callers: Callers) -> None:
    token = callers.tokens.issue(7)
    assert await callers.who(token)
    callers.tokens.revoke(token)
    callers.pass_s(LIFE_S)
    assert callers.authenticator.known(f"Bearer {token}".encode()) is None
    assert await callers.who(token) is None


async def test_the_life_begins_with_the_look_up_not_with_its_end(callers: Callers) -> None:
    token = callers.tokens.issue(7)
    callers.tokens.gate.clear()
    request = asyncio.create_task(callers.who(token))
    await until(lambda: callers.tokens.lookups == 1)
    callers.pass_s(LIFE_S - 1)  # what it reads may have changed since
    callers.tokens.gate.set()
    assert await request
    callers.tokens.revoke(token)
    callers.pass_s(1)
    assert await callers.who(token) is None


async def test_a_token_that_is_used_all_the_time_never_waits_for_a_look_up(callers: Callers) -> None:
    token = callers.tokens.issue(7)
    assert await callers.who(token)
    for _ in range(100):
        callers.pass_s(LIFE_S / 10)
        assert callers.authenticator.known(f"Bearer {token}".encode()) is not None
        await callers.settled()
    assert callers.tokens.lookups <= 21  # one for each half of a life


async def test_a_token_that_expires_does_so_at_once(callers: Callers) -> None:
    expires_at = datetime.fromtimestamp(callers.wall_clock.now, UTC) + timedelta(seconds=1)
    token = callers.tokens.issue(7, expires_at=expires_at)
    assert await callers.who(token)
    callers.pass_s(0.999)
    assert await callers.who(token)
    callers.pass_s(0.001)
    assert await callers.who(token) is None


async def test_while_the_database_is_away_a_known_token_counts_to_the_end_of_its_life(callers: Callers) -> None:
    token = callers.tokens.issue(7)
    assert await callers.who(token)
    callers.tokens.error = Unavailable("away")
    callers.pass_s(LIFE_S * 0.9)
    for _ in range(100):
        assert await callers.who(token)
        await callers.settled()
    assert callers.tokens.lookups == 2  # not one for each request
    callers.pass_s(LIFE_S * 0.2)
    with pytest.raises(Unavailable):
        await callers.who(token)
    callers.tokens.error = None
    assert await callers.who(token)


async def test_a_token_that_is_revoked_here_counts_no_more_and_no_look_up_under_way_brings_it_back(
    callers: Callers,
) -> None:
    token, other = callers.tokens.issue(7), callers.tokens.issue(7)
    assert await callers.who(token)
    assert await callers.who(other)
    callers.pass_s(LIFE_S / 2)  # from now on each is looked up in the background
    callers.tokens.gate.clear()
    assert await callers.who(token)
    await until(lambda: callers.tokens.lookups == 3)
    callers.authenticator.revoke(callers.tokens.rows[token].token_id)  # while the look-up has read it
    waiting = asyncio.create_task(callers.who(token))
    callers.tokens.gate.set()
    assert await waiting is None
    await callers.settled()
    assert await callers.who(token) is None
    assert await callers.who(other) is not None
