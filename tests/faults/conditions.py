"""What a proxy does to what passes through it: rules that hold until they are changed, and cuts that come once."""

import asyncio
import math
import re
from asyncio import StreamWriter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple

CommitPhase = Literal["before", "during", "after"]

STEP_S = 0.01  # how long a slow line takes for one piece


@dataclass(frozen=True)
class Rules:
    """How a proxy behaves; as they stand here, as if it were not there."""

    latency_s: float = 0.0  # in each direction
    bytes_per_s: float = math.inf  # in each direction of each connection
    black_hole: bool = False  # everything is taken, and nothing passed on
    resuming: bool = False  # whether connections go on after a black hole; else they are dropped
    refusing: bool = False  # new connections are closed at once
    reset_share: float = 0.0  # of what the client sends, until it waits: by half before it is passed on, or just after
    drop: Literal["reset", "close"] = "reset"  # how a cut looks to the client: RST, or FIN


class Cut(NamedTuple):
    """A connection that was dropped in a phase of a commit, and the statements that were to be committed."""

    phase: CommitPhase
    sql: str


@dataclass
class Armed:
    """Cuts that are still to come."""

    phase: CommitPhase
    count: int
    matching: re.Pattern[str] | None

    def matches(self, statements: Sequence[str]) -> bool:
        """Whether a commit of these is to be cut."""
        return self.matching is None or any(self.matching.search(sql) for sql in statements)


class Conditions:
    """The rules and cuts of a proxy, within its event loop."""

    def __init__(self, seed: int) -> None:
        self.rules = Rules()
        self.cuts: list[Cut] = []
        self.armed: list[Armed] = []
        self._random = Random(seed)  # noqa: S311  # no secret: it can be repeated
        self._changed = asyncio.Event()

    def change(self, rules: Rules) -> None:
        """Let other rules hold, also for what already waits."""
        self.rules = rules
        self._changed.set()
        self._changed = asyncio.Event()

    async def let_pass(self, arrived: float) -> None:
        """Wait until what arrived at that time of the loop's clock may go on."""
        clock = asyncio.get_running_loop().time
        while (left := math.inf if self.rules.black_hole else arrived + self.rules.latency_s - clock()) > 0:
            await self._pause(left)

    async def write(self, writer: StreamWriter, data: bytes) -> None:
        """Write as quickly as it is allowed."""
        while data:
            rate = self.rules.bytes_per_s
            size = len(data) if rate == math.inf else max(1, int(rate * STEP_S))
            writer.write(data[:size])
            await writer.drain()
            data = data[size:]
            if rate != math.inf:
                await self._pause(size / rate)

    def strikes(self) -> Literal["before", "after"] | None:
        """Draw whether the connection is reset here, and when."""
        if self._random.random() >= self.rules.reset_share:
            return None
        return self._random.choice(("before", "after"))

    def take(self, statements: Sequence[str]) -> Armed | None:
        """Take a cut for a commit of these statements, if there is one."""
        for armed in self.armed:
            if armed.count and armed.matches(statements):
                armed.count -= 1
                return armed
        return None

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until the rules change."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                await self._changed.wait()
