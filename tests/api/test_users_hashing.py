"""Hashing of passwords: few at once, off the event loop, and none for a client that is gone or out of time."""

import asyncio
import threading
from functools import partial

import httpx
import pytest

from db.errors import TimedOut
from service.passwords import HASHES_MAX, Passwords
from tests.support.responses import code
from tests.support.users import every_user, new_user
from tests.support.waiting import until

SECRET = "correct-horse-battery"


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_batch_that_cannot_be_hashed_in_time_writes_nothing_and_delays_no_other(
    client: httpx.AsyncClient,
) -> None:
    batch = [new_user(f"user-{n}", password=SECRET) for n in range(1000)]
    hashing = asyncio.create_task(client.post("/users", json=batch, headers={"x-request-timeout": "1"}))
    response = await client.post("/users", json=new_user("ada", password=SECRET))
    assert response.status_code == 201
    assert (await client.get("/livez")).status_code == 200
    assert not hashing.done()
    assert code(await hashing) == (504, "timeout")
    assert await every_user(client) == [response.json()]


class Hasher:
    """A hasher that takes as long as a test wants."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.allowed = threading.Semaphore(0)

    def hash(self, password: str) -> str:
        self.begun.append(password)
        assert self.allowed.acquire(timeout=15)
        return f"hash of {password}"

    def has_begun(self, count: int) -> bool:
        """Return whether exactly so many hashes have begun."""
        return len(self.begun) == count


def slow_passwords() -> tuple[Passwords, Hasher]:
    passwords, hasher = Passwords(), Hasher()
    passwords._hasher = hasher  # type: ignore[assignment] # all that is used of it
    return passwords, hasher


async def test_few_passwords_are_hashed_at_once_and_in_their_order() -> None:
    opened, hasher = slow_passwords()
    async with opened as passwords:
        deadline = asyncio.get_running_loop().time() + 15
        tasks = [asyncio.create_task(passwords.hash(str(n), deadline)) for n in range(5)]
        await until(partial(hasher.has_begun, HASHES_MAX))
        for done in range(1, 4):
            hasher.allowed.release()
            await until(partial(hasher.has_begun, HASHES_MAX + done))
            assert sum(task.done() for task in tasks) <= done
        for _ in range(HASHES_MAX):
            hasher.allowed.release()
        assert await asyncio.gather(*tasks) == [f"hash of {n}" for n in range(5)]
        assert hasher.begun == list("01234")


async def test_no_hash_begins_for_a_client_that_is_gone_or_out_of_time() -> None:
    opened, hasher = slow_passwords()
    async with opened as passwords:
        now = asyncio.get_running_loop().time()
        with pytest.raises(TimedOut):
            await passwords.hash("late", now)
        running = [asyncio.create_task(passwords.hash(f"running {n}", now + 15)) for n in range(HASHES_MAX)]
        await until(partial(hasher.has_begun, HASHES_MAX))
        gone = asyncio.create_task(passwords.hash("gone", now + 15))
        too_slow = asyncio.create_task(passwords.hash("too slow", asyncio.get_running_loop().time() + 0.01))
        with pytest.raises(TimedOut):
            await too_slow
        gone.cancel()
        running[0].cancel()
        await asyncio.wait([gone, running[0]])
        last = asyncio.create_task(passwords.hash("last", now + 15))
        for _ in range(HASHES_MAX + 1):
            hasher.allowed.release()
        assert await last == "hash of last"
        assert await running[1] == "hash of running 1"
        assert hasher.begun == ["running 0", "running 1", "last"]
