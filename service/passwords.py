"""Password hashing: argon2id, off the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Self, TypeVar
from unicodedata import normalize

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from db.errors import Overloaded, TimedOut

T = TypeVar("T")

# Of a worker. A batch hashes its passwords one after the other, so that one thread is free for other requests.
HASHES_MAX = 2
# Those who sign in have a thread of their own: a flood of them takes one core at most, and delays no write of a user,
# and no such write delays them. It verifies some 40 passwords a second.
VERIFICATIONS_MAX = 1
VERIFICATIONS_WAITING_MAX = 32  # for the thread, most of a second; then a 503
# argon2id with the parameters of OWASP's Password Storage Cheat Sheet: a hash takes 19 MiB and some 25 ms of a core.
# RFC 9106 has 64 MiB for where memory is scarce (section 4), and takes eight times as long: a worker, which serves
# requests meanwhile, could hash 11 passwords a second. A hash tells its parameters, so that they can be raised later.
TIME_COST = 2
MEMORY_KIB = 19 * 1024
PARALLELISM = 1
# The hash of no password, of the right form, which takes as long to compare with: salt and hash are zeros in base64.
NO_HASH = f"$argon2id$v=19$m={MEMORY_KIB},t={TIME_COST},p={PARALLELISM}${22 * 'A'}${43 * 'A'}"


class Verification(NamedTuple):
    """Whether a password is the right one, and a new hash of it if the stored one has other parameters than today."""

    is_right: bool
    new_hash: str | None = None


WRONG = Verification(is_right=False)


class Passwords:
    """Hashes passwords, HASHES_MAX at a time, and verifies VERIFICATIONS_MAX, each in the order in which they come.

    It is entered to have its threads.
    """

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_KIB, parallelism=PARALLELISM)
        self._threads = ThreadPoolExecutor(HASHES_MAX, "passwords")
        self._verifying = ThreadPoolExecutor(VERIFICATIONS_MAX, "verify")
        self._turns = asyncio.Semaphore(VERIFICATIONS_MAX)
        self._verifications = 0  # under way, and waiting

    async def __aenter__(self) -> Self:
        """Do nothing: a thread is started when it is needed."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Wait for the hashes that have begun, and end the threads."""
        for threads in (self._threads, self._verifying):
            await asyncio.to_thread(threads.shutdown, cancel_futures=True)

    async def hash(self, password: str, deadline: float) -> str:
        """Return the hash of a password, its salt and parameters in it. Raise TimedOut at the deadline.

        A hash that has not begun at the deadline, by the loop's clock, or when its task is cancelled, never begins.
        """
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.sleep(0)  # a deadline that is over ends it here
                return await _run(self._threads, self._hasher.hash, _normal(password))
        except TimeoutError:
            raise TimedOut("the password was not hashed in time") from None

    async def verify(
        self, stored: str | None, password: str, deadline: float, check: Callable[[], None]
    ) -> Verification:
        """Compare a password with a stored hash; with none it takes as long, and is wrong.

        `check` is called when it is its turn, before anything is hashed; what it raises is raised. Raise Overloaded if
        VERIFICATIONS_WAITING_MAX wait already, and TimedOut at the deadline by the loop's clock. Until the caller waits
        for something else, no other one has its turn.
        """
        if self._verifications >= VERIFICATIONS_MAX + VERIFICATIONS_WAITING_MAX:
            raise Overloaded(f"{VERIFICATIONS_WAITING_MAX} passwords are waiting to be verified")
        self._verifications += 1
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.sleep(0)  # as above
                async with self._turns:
                    check()
                    return await _run(self._verifying, self._verify, stored, _normal(password))
        except TimeoutError:
            raise TimedOut("the password was not verified in time") from None
        finally:
            self._verifications -= 1

    def _verify(self, stored: str | None, password: str) -> Verification:
        try:
            self._hasher.verify(stored or NO_HASH, password)
        except VerificationError:
            return WRONG
        except InvalidHashError:  # which is no VerificationError, and comes at once
            return self._verify(None, password) if stored else WRONG
        if stored is None:  # nothing has this hash, but no chance is taken
            return WRONG
        is_old = self._hasher.check_needs_rehash(stored)
        return Verification(is_right=True, new_hash=self._hasher.hash(password) if is_old else None)


def _normal(password: str) -> str:
    """Return a password in the form in which clients that sign in write it (NFC: RFC 7617, section 2.1; RFC 8265)."""
    return normalize("NFC", password)


async def _run(threads: ThreadPoolExecutor, work: Callable[..., T], *arguments: str | None) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)
