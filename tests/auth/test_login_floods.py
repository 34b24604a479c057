"""Floods of those who sign in: few hashes at once, a bounded queue, few wrong tries, and others are served."""

import asyncio
from collections import Counter

import httpx
import pytest
from msgspec.structs import replace

from db.errors import Overloaded, TimedOut
from service.auth.throttle import ACCOUNT_AT_ONCE_MAX, ACCOUNT_TRIES_MAX, ADDRESS_AT_ONCE_MAX
from service.passwords import VERIFICATIONS_MAX, VERIFICATIONS_WAITING_MAX, Passwords
from service.settings import Settings
from tests.support.documented import check_response
from tests.support.hashers import Verifications, watched
from tests.support.responses import code, serving
from tests.support.token_calls import PASSWORD, log_in, user_with_password
from tests.support.users import create_user, new_user
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

REFUSED = (401, "invalid-credentials")
THROTTLED = (429, "too-many-tries")
WRONG = "wrong-horse"
ROOM = VERIFICATIONS_MAX + VERIFICATIONS_WAITING_MAX
NAMES = [f"user-{number}" for number in range(2 * ROOM)]


@pytest.fixture
async def service(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Return a client of a service with the user ada."""
    await user_with_password(client)
    client.event_hooks = {"request": [], "response": [check_response]}
    return client


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> Verifications:
    """Watch how passwords are verified."""
    return watched(monkeypatch)


async def test_after_ten_wrong_tries_an_account_has_to_wait_and_nothing_is_hashed(
    service: httpx.AsyncClient, verifications: Verifications
) -> None:
    await user_with_password(service, "bob")
    names = ["ada", "ada@example.org"]  # of one account
    for number in range(ACCOUNT_TRIES_MAX):
        assert code(await log_in(service, names[number % 2], WRONG)) == REFUSED
        if number < 3:
            assert (await log_in(service)).status_code == 201  # which forgives nothing
    hashed = len(verifications.hashes)
    for name in (*names, "Ada@Example.ORG"):
        response = await log_in(service, name)  # with the right password
        assert code(response) == THROTTLED
        assert 0 < int(response.headers["retry-after"]) <= 60
    assert len(verifications.hashes) == hashed
    assert (await log_in(service, "bob")).status_code == 201


async def test_a_client_that_gives_up_early_has_no_more_tries(service: httpx.AsyncClient) -> None:
    found = [
        code(await log_in(service, "ada", WRONG, **{"x-request-timeout": "0.015"}))
        for _ in range(5 * ACCOUNT_TRIES_MAX)
    ]
    assert found[-1] == THROTTLED
    assert found.count(THROTTLED) > ACCOUNT_TRIES_MAX
    assert code(await log_in(service)) == THROTTLED


async def test_the_case_of_a_name_tells_nothing_of_who_there_is(service: httpx.AsyncClient) -> None:
    for name in ("nobody", "ada"):
        found = [code(await log_in(service, name.upper(), WRONG)) for _ in range(ACCOUNT_TRIES_MAX)]
        assert found == [REFUSED] * ACCOUNT_TRIES_MAX
        assert code(await log_in(service, name, WRONG)) == REFUSED


@pytest.mark.parametrize("settings", [{"login_address_tries_max": 1000}], indirect=True)
async def test_neither_a_user_nor_an_address_takes_all_places_also_with_the_right_password(
    service: httpx.AsyncClient, verifications: Verifications
) -> None:
    await user_with_password(service, "bob")
    with verifications.held():
        mine = [asyncio.create_task(log_in(service)) for _ in range(20)]
        await until(lambda: sum(task.done() for task in mine) == 20 - ACCOUNT_AT_ONCE_MAX)
        assert {code(task.result()) for task in mine if task.done()} == {THROTTLED}
        bobs = asyncio.create_task(log_in(service, "bob"))
        others = [asyncio.create_task(log_in(service, name, WRONG)) for name in NAMES[:20]]
        room = ADDRESS_AT_ONCE_MAX - ACCOUNT_AT_ONCE_MAX - 1
        await until(lambda: sum(task.done() for task in others) == 20 - room)
    assert (await bobs).status_code == 201
    assert sorted(response.status_code for response in await asyncio.gather(*mine)) == [201] * 8 + [429] * 12
    await asyncio.gather(*others)


async def test_whether_there_is_a_user_is_not_told_by_the_throttle(service: httpx.AsyncClient) -> None:
    for name in ("nobody", "ada"):
        found = [code(await log_in(service, name, WRONG)) for _ in range(ACCOUNT_TRIES_MAX + 1)]
        assert found == [REFUSED] * ACCOUNT_TRIES_MAX + [THROTTLED]


@pytest.mark.parametrize("settings", [{"login_address_tries_max": 3}], indirect=True)
async def test_an_address_has_to_wait_after_its_wrong_tries_and_another_one_has_not(
    service: httpx.AsyncClient, verifications: Verifications
) -> None:
    for name in ("nobody", "none", "ada"):
        assert code(await log_in(service, name, WRONG)) == REFUSED
    hashed = len(verifications.hashes)
    response = await log_in(service, **{"x-forwarded-for": "10.9.9.9", "forwarded": "for=10.9.9.9"})  # who is to know
    assert code(response) == THROTTLED
    assert len(verifications.hashes) == hashed
    transport = service._transport
    assert isinstance(transport, httpx.ASGITransport)
    elsewhere = httpx.ASGITransport(transport.app, client=("10.0.0.2", 1))
    async with httpx.AsyncClient(transport=elsewhere, base_url="http://items.test") as other:
        assert (await log_in(other)).status_code == 201


async def test_tries_that_come_at_once_are_counted_one_by_one(
    service: httpx.AsyncClient, verifications: Verifications
) -> None:
    found: Counter[tuple[int, str]] = Counter()
    for _ in range(3):
        tries = [log_in(service, password=WRONG) for _ in range(VERIFICATIONS_WAITING_MAX)]
        found += Counter(map(code, await asyncio.gather(*tries)))
    assert found == {REFUSED: ACCOUNT_TRIES_MAX, THROTTLED: 3 * VERIFICATIONS_WAITING_MAX - ACCOUNT_TRIES_MAX}
    assert len(verifications.hashes) == ACCOUNT_TRIES_MAX


async def test_right_passwords_that_come_at_once_all_have_their_token(service: httpx.AsyncClient) -> None:
    responses = await asyncio.gather(*(log_in(service) for _ in range(ACCOUNT_AT_ONCE_MAX)))
    assert {response.status_code for response in responses} == {201}
    assert len({response.json()["token"] for response in responses}) == len(responses)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_flood_hashes_little_at_once_and_others_are_served_meanwhile(
    settings: Settings, verifications: Verifications
) -> None:
    async with serving(replace(settings, login_address_tries_max=0)) as service:
        service.event_hooks = {"request": [], "response": [check_response]}
        with verifications.held():
            flood = [asyncio.create_task(log_in(service, name, WRONG)) for name in NAMES]
            await until(lambda: sum(one.done() for one in flood) == len(NAMES) - ROOM)
            assert {code(one.result()) for one in flood if one.done()} == {(503, "overloaded")}
            assert (await service.get("/items")).status_code == 200
            assert (await service.post("/users", json=new_user("ada", password=PASSWORD))).status_code == 201
            assert (await service.post("/items", json={"name": "lamp", "price": 1})).status_code == 201
            assert verifications.running == VERIFICATIONS_MAX
        assert Counter(code(one) for one in await asyncio.gather(*flood)) == {REFUSED: ROOM, (503, "overloaded"): ROOM}
        assert (len(verifications.hashes), verifications.running_max) == (ROOM, VERIFICATIONS_MAX)
        assert (await log_in(service)).status_code == 201


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_writes_of_passwords_delay_no_log_in(service: httpx.AsyncClient) -> None:
    batch = [new_user(f"user-{number}", password=PASSWORD) for number in range(1000)]
    writing = asyncio.create_task(service.post("/users", json=batch, headers={"x-request-timeout": "60"}))
    assert (await log_in(service)).status_code == 201
    assert not writing.done()
    writing.cancel()
    await asyncio.wait([writing])


async def test_a_password_is_not_verified_for_a_client_that_is_gone_or_out_of_time(
    verifications: Verifications,
) -> None:
    now = asyncio.get_running_loop().time()
    async with Passwords() as passwords:

        def verify(deadline: float) -> asyncio.Task[object]:
            return asyncio.create_task(passwords.verify(None, WRONG, deadline, lambda: None))

        with verifications.held():
            running = verify(now + 15)
            await until(lambda: verifications.running)
            gone, late, last = verify(now + 15), verify(now), verify(now + 15)
            with pytest.raises(TimedOut):
                await late
            gone.cancel()
            await asyncio.wait([gone])
            waiting = [verify(now + 15) for _ in range(ROOM)]
            await until(waiting[-1].done)
            assert isinstance(waiting[-1].exception(), Overloaded)
        await asyncio.gather(running, last, *waiting, return_exceptions=True)
    assert len(verifications.hashes) == ROOM


async def test_the_user_of_a_token_that_was_issued_for_a_password_may_be_deleted(service: httpx.AsyncClient) -> None:
    user = await create_user(service, "bob", password=PASSWORD)
    assert (await log_in(service, "bob")).status_code == 201
    assert (await service.delete(f"/users/{user['id']}")).status_code == 204
    assert code(await log_in(service, "bob")) == REFUSED
