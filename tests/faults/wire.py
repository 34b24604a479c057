"""PostgreSQL's protocol 3.0, as far as it takes to see what commits (PostgreSQL documentation, chapter 55).

It is read along, between a client that waits for each reply before it sends more, as asyncpg does, and the server.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

ENCRYPTION_REQUESTS = {80_877_103, 80_877_104}  # TLS, GSSAPI
# What a client may send before the message after which it waits for a reply: Parse, Bind, Describe, Execute, Close.
UNFINISHED = frozenset({b"P", b"B", b"D", b"E", b"C"})
IDLE, IN_TRANSACTION = b"I", b"T"

# Literals, quoted names and comments.
NOISE = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/""", re.DOTALL)
# SELECT … FOR UPDATE, and FOR NO KEY UPDATE, write nothing.
WRITES = re.compile(r"\b(?:insert into|delete from|merge into|(?<!for )(?<!key )update)\b")
BEGINS = re.compile(r"(?:^|; ?)(?:begin|start transaction)\b")
COMMITS = re.compile(r"(?:^|; ?)(?:commit|end)\b(?! prepared)")


class Message(NamedTuple):
    """One message; what a client sends first has no kind."""

    kind: bytes
    whole: bytes

    @property
    def body(self) -> bytes:
        """What follows kind and length."""
        return self.whole[len(self.kind) + 4 :]

    def texts(self, count: int) -> list[str]:
        """Return the texts that the body begins with."""
        return [text.decode(errors="replace") for text in self.body.split(b"\0", count)[:count]]


class Batch(NamedTuple):
    """What a client sends before it waits, and the statements that are committed by it, if it commits."""

    data: bytes
    committed: Sequence[str] = ()


class Frames:
    """Whole messages out of a stream of bytes."""

    def __init__(self, *, typed: bool) -> None:
        self.typed = typed
        self._rest = bytearray()

    def split(self, data: bytes) -> Iterator[Message]:
        """Return the messages that these bytes complete."""
        self._rest += data
        while (size := self._size()) <= len(self._rest):
            whole = bytes(self._rest[:size])
            del self._rest[:size]
            yield Message(whole[: int(self.typed)], whole)

    def _size(self) -> int:
        head = 4 + self.typed
        if len(self._rest) < head:
            return head
        return self.typed + int.from_bytes(self._rest[int(self.typed) : head], "big")


class Dialogue:
    """One connection's state, as both sides know it from what they sent."""

    def __init__(self) -> None:
        self.encrypted = False  # then nothing can be read
        self._client, self._server = Frames(typed=False), Frames(typed=True)
        self._asked_for_encryption = False
        self._status = b""
        self._batch = bytearray()
        self._statements: dict[str, str] = {}
        self._portals: dict[str, str] = {}
        self._executed: list[str] = []  # since the last Sync
        self._ran: list[str] = []  # in this transaction, before

    def sent(self, data: bytes) -> Iterator[Batch]:
        """Read what the client sent, and give what it has finished."""
        if self.encrypted:
            yield Batch(data)
            return
        for message in self._client.split(data):
            self._batch += message.whole
            self._read(message)
            if message.kind not in UNFINISHED:
                yield self._finish(message.kind)

    def received(self, data: bytes) -> list[bytes]:
        """Read what the server sent, and give the kinds of the messages that are complete now."""
        if self._asked_for_encryption:
            self._asked_for_encryption = False
            self.encrypted = data[:1] != b"N"
            data = data[1:]
        if self.encrypted:
            return []
        kinds = []
        for message in self._server.split(data):
            kinds.append(message.kind)
            if message.kind == b"Z":
                self._status = message.body
                if self._status == IDLE:
                    self._ran = []
        return kinds

    def _read(self, message: Message) -> None:
        match message.kind:
            case b"":
                self._asked_for_encryption = int.from_bytes(message.body[:4], "big") in ENCRYPTION_REQUESTS
                self._client.typed = not self._asked_for_encryption
            case b"Q":
                self._executed += message.texts(1)
            case b"P":
                name, sql = message.texts(2)
                self._statements[name] = sql
            case b"B":
                portal, name = message.texts(2)
                self._portals[portal] = self._statements.get(name, "")
            case b"E":
                self._executed.append(self._portals.get(message.texts(1)[0], ""))
            case b"C" if message.body[:1] == b"S":
                self._statements.pop(message.texts(1)[0][1:], None)

    def _finish(self, kind: bytes) -> Batch:
        data = bytes(self._batch)
        self._batch.clear()
        if kind not in {b"Q", b"S"}:
            return Batch(data)
        self._ran += self._executed
        commits = commit(self._executed, self._status)
        self._executed = []
        return Batch(data, tuple(self._ran) if commits else ())


def commit(statements: Sequence[str], status: bytes) -> bool:
    """Whether these statements commit what was written, from a transaction's status on."""
    texts = [plain(sql) for sql in statements]
    commits = any(COMMITS.search(text) for text in texts)
    if status == IDLE and not any(BEGINS.search(text) for text in texts):
        return any(WRITES.search(text) for text in texts)
    return commits and status in {IDLE, IN_TRANSACTION}  # the commit of one that has failed is a rollback


@lru_cache(maxsize=1024)
def plain(sql: str) -> str:
    """Return a statement without what could be mistaken for one, in lower case."""
    return " ".join(NOISE.sub(" ", sql).lower().split())
