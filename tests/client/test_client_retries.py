"""What the client sends again, when, under which key, and with what error it gives up."""

import asyncio
from itertools import cycle
from typing import Any

import pytest

import items_client
from items_client import Client, ItemCreate, retries
from items_client.errors import CLASS_BY_CODE
from items_client.retries import BACKOFF_S, BACKOFF_S_MAX, RetryBudget, backoff_s
from tests.client.cutter import cutting
from tests.client.scripted import ITEM, MSGPACK, Scripted, problem, scripting
from tests.support.waiting import until

LAMP = ItemCreate("lamp", 9.5)
OVERLOADED = problem(503, "overloaded", retryable=True, Retry_After="3")
UNKNOWN = problem(503, "commit-outcome-unknown", Retry_After="1")
IN_USE = problem(409, "idempotency-key-in-use", retryable=True, Retry_After="1")
BAD_GATEWAY = Scripted(502, b"<html>", {"Content-Type": "text/html"})


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the seconds that the client waits for, without waiting."""
    seconds: list[float] = []

    async def record(delay: float) -> None:
        seconds.append(delay)
        assert len(seconds) < 100  # far beyond every budget
        await asyncio.sleep(0)

    monkeypatch.setattr(retries, "sleep", record)
    return seconds


async def test_what_may_be_repeated_is_sent_again_after_retry_after_under_the_same_key(waits: list[float]) -> None:
    async with scripting(OVERLOADED, UNKNOWN, IN_USE, BAD_GATEWAY, Scripted()) as script, Client(script.url) as client:
        assert (await client.items.create(LAMP)).id == 7
        keys = script.sent("Idempotency-Key")
        assert (len(keys), len(set(keys))) == (5, 1)
        await client.items.create(LAMP)
        assert script.sent("Idempotency-Key")[5] not in keys
    lowest = [3, 1, 1, 0]
    assert [int(wait) for wait in waits] == lowest
    assert all(
        wait <= low + BACKOFF_S * 2**number for number, (wait, low) in enumerate(zip(waits, lowest, strict=True))
    )


async def test_reads_have_no_key_and_are_sent_again(waits: list[float]) -> None:
    async with scripting(BAD_GATEWAY, Scripted()) as script, Client(script.url) as client:
        assert (await client.items.get(7)).version == 3
        assert script.sent("Idempotency-Key") == [None, None]
    assert len(waits) == 1


async def test_who_has_no_time_to_wait_gets_the_error_at_once(waits: list[float]) -> None:
    async with scripting(OVERLOADED) as script, Client(script.url, timeout=2) as client:
        with pytest.raises(items_client.Overloaded) as error:
            await client.items.create(LAMP)
        assert (error.value.code, error.value.request_id, error.value.status) == ("overloaded", "r-1", 503)
        assert len(script.requests) == 1
    assert waits == []


@pytest.mark.parametrize("first", [UNKNOWN, IN_USE, BAD_GATEWAY])
async def test_a_write_that_may_have_happened_ends_as_unknown_with_its_key(first: Scripted, waits: list[float]) -> None:
    async with scripting(first, OVERLOADED) as script, Client(script.url, timeout=2.5) as client:
        with pytest.raises(items_client.OutcomeUnknown) as error:
            await client.items.create(LAMP)
        assert script.sent("Idempotency-Key") == [error.value.idempotency_key] * 2
        script.responses = [Scripted()]
        await client.items.create(LAMP, idempotency_key=error.value.idempotency_key)
        assert len(set(script.sent("Idempotency-Key"))) == 1
    assert len(waits) == 1


async def test_a_write_whose_connection_breaks_may_have_happened_and_a_read_need_not_care(waits: list[float]) -> None:
    async with scripting() as script, cutting(script.url) as cutter, Client(cutter.url) as client:
        cutter.cut(cycle(["after"]))
        with pytest.raises(items_client.ConnectionFailed):
            await client.items.get(7)
        with pytest.raises(items_client.OutcomeUnknown) as error:
            await client.items.create(LAMP)
        assert cutter.requests[-1].headers[b"idempotency-key"].decode() == error.value.idempotency_key
    assert waits


async def test_a_refusal_that_follows_is_the_outcome(waits: list[float]) -> None:
    async with scripting(UNKNOWN, problem(412, "stale")) as script, Client(script.url) as client:
        with pytest.raises(items_client.VersionMismatch):
            await client.items.update(7, price=8)
    assert len(waits) == 1


@pytest.mark.parametrize("code", CLASS_BY_CODE)
async def test_every_code_is_raised_as_its_class(code: str) -> None:
    async with scripting(problem(418, code, Retry_After="60")) as script, Client(script.url) as client:
        with pytest.raises(items_client.ItemsError) as error:
            await client.items.get(7)
    assert (type(error.value), error.value.code, error.value.detail) == (CLASS_BY_CODE[code], code, f"This is {code}.")
    assert [(each.pointer, each.detail) for each in error.value.errors] == [("/name", "Expected a string")]


@pytest.mark.parametrize(
    ("response", "kind", "code"),
    [
        (problem(409, "what-comes-later"), items_client.ItemsError, "what-comes-later"),
        (Scripted(404, b"none", {"Content-Type": "text/plain"}), items_client.ItemsError, ""),
        (Scripted(302, b"", {"Location": "http://127.0.0.1:1/"}), items_client.ItemsError, ""),
        (Scripted(400, b"{", {"Content-Type": "application/problem+json"}), items_client.ItemsError, ""),
        (Scripted(200, b"<html>", {"Content-Type": "text/html"}), items_client.Incompatible, ""),
        (Scripted(200, ITEM[:-9], {"Content-Type": MSGPACK}), items_client.Incompatible, ""),
    ],
)
async def test_what_this_version_does_not_know_is_a_general_error(
    response: Scripted, kind: type[items_client.ItemsError], code: str
) -> None:
    async with scripting(response) as script, Client(script.url) as client:
        with pytest.raises(items_client.ItemsError) as error:
            await client.items.get(7)
        assert len(script.requests) == 1
    assert (type(error.value), error.value.code, error.value.status) == (kind, code, response.status)


async def test_a_budget_ends_the_retries_of_a_client_whose_service_fails(waits: list[float]) -> None:
    async with scripting(BAD_GATEWAY) as script, Client(script.url, timeout=60) as client:
        for _ in range(10):
            with pytest.raises(items_client.Unavailable):
                await client.items.get(7)
        assert len(script.requests) == 10 + len(waits)
    assert 20 <= len(waits) <= 22


def test_a_budget_is_earned_by_calls() -> None:
    budget = RetryBudget(share=0.5, burst=1)
    assert [budget.withdraw(), budget.withdraw()] == [True, False]
    budget.deposit()
    assert not budget.withdraw()
    budget.deposit()
    assert [budget.withdraw(), budget.withdraw()] == [True, False]


def test_waits_are_random_within_a_limit_that_doubles() -> None:
    for number in (0, 1, 3, 99):
        waits = [backoff_s(number) for _ in range(100)]
        assert 0 <= min(waits) < max(waits) <= min(BACKOFF_S * 2**number, BACKOFF_S_MAX)


async def test_one_deadline_holds_for_a_call_whose_response_never_comes() -> None:
    async with scripting(None) as script, Client(script.url, timeout=60) as client:
        with pytest.raises(items_client.DeadlineExceeded) as error:
            await client.items.get(7, timeout=0.1)
        assert isinstance(error.value, TimeoutError)
        with pytest.raises(items_client.OutcomeUnknown) as unknown:
            await client.items.create(LAMP, timeout=0.1)
        assert script.sent("Idempotency-Key") == [None, unknown.value.idempotency_key]
        assert all(0 < float(sent or 0) <= 0.1 for sent in script.sent("X-Request-Timeout"))


async def test_the_deadline_counts_the_wait_for_a_connection_and_what_was_not_sent_did_not_happen() -> None:
    async with scripting(None) as script, Client(script.url, connections_max=1) as client:
        first = asyncio.create_task(client.items.get(7))
        await until(lambda: script.requests)
        with pytest.raises(items_client.DeadlineExceeded):
            await client.items.create(LAMP, timeout=0.05)
        first.cancel()
        await asyncio.wait([first])
        assert len(script.requests) == 1


async def test_the_service_is_told_how_much_time_is_left_for_each_try() -> None:
    async with scripting(BAD_GATEWAY, Scripted()) as script, Client(script.url, timeout=30) as client:
        await client.items.get(7)
        first, second = (float(sent or 0) for sent in script.sent("X-Request-Timeout"))
    assert 30 >= first >= second > 29


async def test_no_connection_means_that_nothing_happened(waits: list[float]) -> None:
    async with Client("http://127.0.0.1:1", timeout=1) as client:
        with pytest.raises(items_client.ConnectionFailed) as error:
            await client.items.create(LAMP)
    assert isinstance(error.value, items_client.Unavailable)
    assert error.value.__cause__ is not None
    assert waits


async def test_requests_are_msgpack_with_the_token_and_the_version() -> None:
    async with scripting() as script, Client(script.url, token="itm_1") as client:
        item = await client.items.get(7)
        await client.items.update(item, price=8)
        wanted: dict[str, list[Any]] = {
            "Accept": [MSGPACK, MSGPACK],
            "Authorization": ["Bearer itm_1"] * 2,
            "Content-Type": [None, MSGPACK],
            "If-Match": [None, '"3-msgpack"'],
        }
        assert {name: script.sent(name) for name in wanted} == wanted
