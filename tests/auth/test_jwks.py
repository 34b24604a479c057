"""The keys of an issuer: when they are read, from where, and what happens when they cannot be."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from db.errors import Overloaded
from service.auth import jwks
from service.auth.jwks import COOL_DOWN_S, WAITERS_MAX, Keys
from service.auth.key_source import FileSource, UrlSource
from service.auth.pace import MISSES_MAX
from service.http.problems import NOT_READY, ProblemError
from tests.support.callers import LIFE_S, Clock
from tests.support.issuer import Issuer, claims_of, encoded, issuing, signed, signing_key, url_source
from tests.support.jwts import NOW, opened
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

ALGORITHMS = {"RS256", "ES256", "Ed25519"}
ONE, TWO = signing_key("one"), signing_key("two")
UNAVAILABLE = "The keys of the tokens' issuer cannot be read now."


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    """Return an issuer whose key set has the key `one`."""
    async with issuing(ONE) as issuer:
        yield issuer


@pytest.fixture
def clock() -> Clock:
    """Return the clock of the keys."""
    return Clock(100.0)


@pytest.fixture
async def keys(issuer: Issuer, clock: Clock) -> AsyncIterator[Keys]:
    """Return the keys of the issuer, which have been read."""
    async with Keys(url_source(issuer.url), ALGORITHMS, clock=clock) as keys:
        await until(lambda: issuer.fetches == 1 and keys._reading is None)
        yield keys


async def refusal(finding: Awaitable[object]) -> str:
    with pytest.raises(ProblemError) as caught:
        await finding
    assert caught.value.problem_type is NOT_READY
    assert NOT_READY.retryable
    return str(caught.value)


async def test_the_request_is_one_that_any_server_understands(keys: Keys, issuer: Issuer) -> None:
    assert await keys.find("one", "ES256")
    [head] = issuer.heads
    first, *fields = head.splitlines()
    assert first == "GET /jwks.json HTTP/1.1"
    assert f"Host: {issuer.url.split('/')[2]}" in fields
    assert "Connection: close" in fields


async def test_a_key_that_the_issuer_adds_is_found_when_a_token_names_it(
    keys: Keys, issuer: Issuer, clock: Clock
) -> None:
    issuer.key_set["keys"].append(TWO.public())
    assert await keys.find("two", "ES256") is None  # the keys were read just now
    clock.now += COOL_DOWN_S
    assert await keys.find("two", "ES256")
    assert issuer.fetches == 2


async def test_a_key_that_the_issuer_withdraws_counts_until_the_keys_are_read_again(
    keys: Keys, issuer: Issuer, clock: Clock
) -> None:
    issuer.key_set["keys"] = [TWO.public()]
    assert await keys.find("one", "ES256")
    clock.now += COOL_DOWN_S
    assert await keys.find("two", "ES256")
    assert await keys.find("one", "ES256") is None
    assert issuer.fetches == 2


async def test_tokens_end_with_their_key_and_those_of_the_others_go_on() -> None:
    async with opened(ONE, TWO) as callers:
        first, second = callers.token(key=ONE, exp=int(NOW) + 900), callers.token(key=TWO, exp=int(NOW) + 900)
        assert await callers.who(first)
        assert await callers.who(second)
        callers.source.keys = [TWO.public(), signing_key("three").public()]
        callers.pass_s(COOL_DOWN_S)
        assert await callers.who(callers.token(key=signing_key("three")))
        assert await callers.who(first) is None
        assert await callers.who(second)


async def test_another_key_under_the_same_id_ends_the_tokens_of_the_one_before() -> None:
    async with opened(ONE) as callers:
        callers.pass_s(COOL_DOWN_S)
        token = callers.token(key=ONE)
        assert await callers.who(token)
        callers.source.keys = [TWO.public(kid="one")]
        assert await callers.who(callers.token(key=signing_key("three"))) is None  # has the keys read
        callers.pass_s(LIFE_S * 0.6)
        assert await callers.who(token)  # and begins a look-up
        await callers.settled()
        assert await callers.who(token) is None
        assert await callers.who(signed(claims_of("ada", callers.wall_clock()), TWO, {"kid": "one"}))


async def test_requests_that_wait_for_a_key_share_a_reading(keys: Keys, issuer: Issuer, clock: Clock) -> None:
    clock.now += COOL_DOWN_S
    issuer.key_set["keys"].append(TWO.public())
    issuer.gate.clear()
    waiting = [asyncio.create_task(keys.find("two", "ES256")) for _ in range(50)]
    await until(lambda: issuer.fetches == 2)
    waiting[0].cancel()  # its client is gone: the others wait on
    issuer.gate.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(result is not None and not isinstance(result, BaseException) for result in results[1:])
    assert issuer.fetches == 2


async def test_known_keys_do_not_wait_for_a_reading_and_not_too_many_requests_do(
    keys: Keys, issuer: Issuer, clock: Clock
) -> None:
    clock.now += COOL_DOWN_S
    issuer.gate.clear()
    waiting = [asyncio.create_task(keys.find(f"unknown {number}", "ES256")) for number in range(WAITERS_MAX)]
    await until(lambda: issuer.fetches == 2)
    with pytest.raises(Overloaded):
        await keys.find("one more", "ES256")
    assert await keys.find("one", "ES256")
    issuer.gate.set()
    assert await asyncio.gather(*waiting) == WAITERS_MAX * [None]


async def test_ten_thousand_unknown_keys_cause_one_reading_in_a_cool_down_and_no_statement(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.auth.authenticator.REFUSED_MAX", 1000)
    async with opened(source=url_source(issuer.url)) as callers:
        known = callers.token()
        assert await callers.who(known)
        for cool_down in range(10):
            tokens = [callers.token(key=ONE._replace(kid=f"{cool_down}-{number}")) for number in range(1000)]
            assert await callers.who(tokens[0]) is None  # which has the keys read
            assert not any(await asyncio.gather(*map(callers.who, tokens)))
            assert issuer.fetches == cool_down + 1
            assert await callers.who(known)
            callers.clock.now += COOL_DOWN_S
        assert callers.finds <= 1 + 2 * 10  # of the known one
        assert len(callers.authenticator._refused) == 1000
        assert len(callers.authenticator._known) == 1


async def test_ten_thousand_tokens_with_a_wrong_signature_cause_no_reading_and_no_statement(issuer: Issuer) -> None:
    async with opened(source=url_source(issuer.url)) as callers:
        head, _, signature = callers.token().split(".")
        for number in range(10):
            claims = [encoded(claims_of(f"user {number} {each}", NOW)) for each in range(1000)]
            assert not any(await asyncio.gather(*(callers.who(f"{head}.{each}.{signature}") for each in claims)))
        assert (issuer.fetches, callers.finds) == (1, 0)


async def test_ten_thousand_valid_tokens_of_unknown_users_are_looked_up_at_a_bounded_pace() -> None:
    async with opened() as callers:
        for number in range(10):
            tokens = [callers.token(f"user {number} {each}") for each in range(1000)]
            assert not any(await asyncio.gather(*map(callers.who, tokens)))
        assert callers.moments < MISSES_MAX + 100


async def test_until_the_keys_have_been_read_a_request_waits_and_then_is_told_to_come_back(
    issuer: Issuer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.status = 500
    issuer.gate.clear()
    with caplog.at_level(logging.INFO):
        async with Keys(url_source(issuer.url), ALGORITHMS, clock=clock) as keys:
            waiting = asyncio.create_task(refusal(keys.find("one", "ES256")))
            await until(lambda: issuer.fetches)
            issuer.gate.set()
            assert await waiting == UNAVAILABLE
            for _ in range(100):
                assert await refusal(keys.find("one", "ES256")) == UNAVAILABLE
            assert issuer.fetches == 1
            issuer.status = 200
            clock.now += COOL_DOWN_S
            assert await keys.find("one", "ES256")
    lines = [record.getMessage() for record in caplog.records if record.name == jwks.__name__]
    first, *others = lines
    assert first.startswith(f"the keys of the tokens' issuer cannot be read from {issuer.url}: the response is a 500;")
    assert first.endswith("no JWT comes in until they can be")
    assert others == [
        "keys of the tokens' issuer",
        f"the keys of the tokens' issuer can be read again from {issuer.url}",
    ]


async def test_while_the_keys_cannot_be_read_those_that_are_there_count(
    keys: Keys, issuer: Issuer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.status = 404
    for _ in range(3):
        clock.now += COOL_DOWN_S
        assert await refusal(keys.find("two", "ES256")) == UNAVAILABLE
        assert await keys.find("one", "ES256")
    assert issuer.fetches == 4
    assert caplog.text.count("those that were read before still count") == 1
    issuer.status = 200
    clock.now += COOL_DOWN_S
    assert await keys.find("two", "ES256") is None  # now it is known


async def test_keys_are_read_again_in_the_background(
    issuer: Issuer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UrlSource, "interval_s", 0.001)
    async with Keys(url_source(issuer.url), ALGORITHMS, clock=clock) as keys:
        await until(lambda: issuer.fetches > 3)
        issuer.key_set["keys"] = [TWO.public()]
        await until(lambda: keys._key_set.find("two", "ES256"))
        assert keys._key_set.find("one", "ES256") is None


@pytest.mark.parametrize("change", ["two", "away", "broken"])
async def test_a_file_is_read_again_when_it_has_changed(
    tmp_path: Path, clock: Clock, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FileSource, "interval_s", 0.001)
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [ONE.public()]}))
    async with Keys(FileSource(path), ALGORITHMS, clock=clock) as keys:
        assert await keys.find("one", "ES256")
        if change == "two":
            path.write_text(json.dumps({"keys": [TWO.public()]}))
            await until(lambda: keys._key_set.find("two", "ES256"))
        else:
            path.unlink() if change == "away" else path.write_text("{")
            await until(lambda: keys._failed)
            assert await keys.find("one", "ES256")
            path.write_text(json.dumps({"keys": [ONE.public(), TWO.public()]}))
            await until(lambda: keys._key_set.find("two", "ES256") and not keys._failed)
