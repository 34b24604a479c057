"""Password hashing: argon2id, off the event loop."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from argon2 import PasswordHasher

from db.errors import TimedOut

# Of a worker. A batch hashes its passwords one after the other, so that one thread is free for other requests.
HASHES_MAX = 2
# argon2id with the parameters of OWASP's Password Storage Cheat Sheet: a hash takes 19 MiB and some 25 ms of a core.
# RFC 9106 has 64 MiB for where memory is scarce (section 4), and takes eight times as long: a worker, which serves
# requests meanwhile, could hash 11 passwords a second. A hash tells its parameters, so that they can be raised later.
TIME_COST = 2
MEMORY_KIB = 19 * 1024
PARALLELISM = 1


class Passwords:
    """Hashes passwords, HASHES_MAX at a time, in the order in which they come; it is entered to have its threads."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_KIB, parallelism=PARALLELISM)
        self._threads = ThreadPoolExecutor(HASHES_MAX, "passwords")

    async def __aenter__(self) -> Self:
        """Do nothing: a thread is started when it is needed."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Wait for the hashes that have begun, and end the threads."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    async def hash(self, password: str, deadline: float) -> str:
        """Return the hash of a password, its salt and parameters in it. Raise TimedOut at the deadline.

        A hash that has not begun at the deadline, by the loop's clock, or when its task is cancelled, never begins.
        """
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.sleep(0)  # a deadline that is over ends it here
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._hasher.hash, password)
        except TimeoutError:
            raise TimedOut("the password was not hashed in time") from None
