"""A journal of writes: each request, and what its response said, on the disk before anything else is done."""

import asyncio
import os
from pathlib import Path
from typing import Any, Literal, Self

import msgspec
from msgspec import Struct

Result = Literal["acknowledged", "refused", "unknown"]
Verb = Literal["create", "update", "delete"]
Fields = dict[str, Any]  # of a row, in a request or a response: its id, its version, and what writers set


class Intent(Struct, frozen=True, kw_only=True, tag=True):
    """A write that is about to be sent."""

    number: int
    verb: Verb
    path: str  # of the resource
    rows: list[Fields]
    key: str | None = None


class Outcome(Struct, frozen=True, kw_only=True, tag=True):
    """What is certain of a write, after all its repeats. That of an intent without an outcome is unknown."""

    number: int
    result: Result
    status: int | None = None  # of the last response
    rows: list[Fields] = []


class Reading(Struct, frozen=True, kw_only=True, tag=True):
    """A row as its writer read it, between two writes; without a version it was not there."""

    path: str  # of the resource
    id: int
    version: int | None


Event = Intent | Outcome | Reading

ENCODER = msgspec.json.Encoder()
DECODER: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


class Journal:
    """A file with a line for each event, to be continued if there is one; used within one event loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._numbers = 0
        self._synced: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        if self.path.exists():
            events = read(self.path)
            self._numbers = max((event.number for event in events if isinstance(event, Intent)), default=0)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        whole = self.path.read_bytes().rfind(b"\n") + 1
        os.truncate(self._file, whole)  # the writer of the last line may have been killed
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def number(self) -> int:
        """Return a number that no other write has."""
        self._numbers += 1
        return self._numbers

    def append(self, event: Event) -> None:
        """Write an event: it survives the process, not the machine."""
        os.write(self._file, ENCODER.encode(event) + b"\n")

    async def settle(self, outcome: Outcome) -> None:
        """Write an outcome, and return once it is on the disk."""
        self.append(outcome)
        if self._next is None:  # outcomes that come while the disk is busy share the next flush
            self._next = asyncio.create_task(self._sync(self._synced))
        await asyncio.shield(self._next)

    async def _sync(self, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await asyncio.wait([before])
        self._synced, self._next = self._next, None
        await asyncio.to_thread(os.fsync, self._file)


def read(path: Path) -> list[Event]:
    """Return the events of a journal, in order, without a line that was never finished."""
    *lines, _ = path.read_bytes().split(b"\n")
    return [DECODER.decode(line) for line in lines]
