"""The keys by which tokens are verified: read in the background, and when a token names one that is not known.

    unknown key -> a reading is under way: waited for, by at most WAITERS_MAX
                -> none began within COOL_DOWN_S: one begins, and is waited for
                `-> refused, or a 503 if the last reading failed: the key may be a new one

A reading that fails keeps the keys that are there, and is tried again after COOL_DOWN_S; the log says it once.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from random import uniform
from time import monotonic
from typing import Self

from db.errors import Overloaded
from service.auth.key_set import InvalidKeySet, KeySet, VerifyingKey, read_key_set
from service.auth.key_source import KeySource, KeySourceError
from service.http.problems import NOT_READY, ProblemError

log = logging.getLogger(__name__)

COOL_DOWN_S = 30.0
WAITERS_MAX = 100  # for a reading; then a 503, so that they leave room for look-ups of tokens with known keys
SPREAD = 0.1  # of the interval, so that not all workers ask an issuer at once


class Keys:
    """The keys of a source that fit `algorithms`; it is entered to read them.

    It begins at most one reading in COOL_DOWN_S for unknown keys, and one in the source's interval beside.
    """

    def __init__(
        self, source: KeySource, algorithms: Collection[str], *, clock: Callable[[], float] = monotonic
    ) -> None:
        self._source = source
        self._algorithms = algorithms
        self._clock = clock
        self._content = b""
        self._key_set = KeySet([], algorithms)
        self._failed = False  # whether the last reading did
        self._next_at = 0.0  # from when on a reading for an unknown key may begin
        self._reading: asyncio.Task[None] | None = None
        self._waiters = 0
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to read."""
        self._reader = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        tasks = [task for task in (self._reader, self._reading) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def find(self, kid: str | None, algorithm: str) -> VerifyingKey | None:
        """Return the key that a token names; None if there is none.

        Raise Overloaded, and a 503 if it is not known which keys there are.
        """
        found = self._key_set.find(kid, algorithm)
        if found is not None:
            return found
        reading = self._reading
        if reading is None and self._clock() >= self._next_at:
            reading = self._begin()
        if reading is not None:
            await self._wait(reading)
            found = self._key_set.find(kid, algorithm)
        if found is None and self._failed:
            raise ProblemError(NOT_READY, "The keys of the tokens' issuer cannot be read now.")
        return found

    async def _wait(self, reading: asyncio.Task[None]) -> None:
        if self._waiters >= WAITERS_MAX:
            raise Overloaded(f"{WAITERS_MAX} callers wait for the keys of the tokens' issuer")
        self._waiters += 1
        try:
            await asyncio.shield(reading)
        finally:
            self._waiters -= 1

    def _begin(self) -> "asyncio.Task[None]":
        self._next_at = self._clock() + COOL_DOWN_S
        self._reading = asyncio.create_task(self._read())
        self._reading.add_done_callback(self._end)
        return self._reading

    def _end(self, _: "asyncio.Task[None]") -> None:
        self._reading = None

    async def _run(self) -> None:
        while True:
            await asyncio.shield(self._reading or self._begin())
            interval_s = self._source.interval_s * uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311 - no secret
            await asyncio.sleep(min(COOL_DOWN_S, interval_s) if self._failed else interval_s)

    async def _read(self) -> None:
        """Read the keys, and log what changed."""
        try:
            content = await self._source.read()
            if content != self._content:
                self._replace(content)
        except (KeySourceError, InvalidKeySet) as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the next reading may succeed
            self._fail(repr(error))
        else:
            if self._failed:
                log.info("the keys of the tokens' issuer can be read again from %s", self._source)
            self._failed = False

    def _replace(self, content: bytes) -> None:
        key_set = read_key_set(content, self._algorithms)
        self._content, self._key_set = content, key_set
        log.info("keys of the tokens' issuer", extra={"ids": key_set.ids, "left_out": list(key_set.skipped)})

    def _fail(self, why: str) -> None:
        if not self._failed:
            kept = "those that were read before still count" if self._key_set else "no JWT comes in until they can be"
            log.warning("the keys of the tokens' issuer cannot be read from %s: %s; %s", self._source, why, kept)
        self._failed = True
