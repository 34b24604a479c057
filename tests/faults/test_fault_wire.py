"""What is read along of PostgreSQL's protocol."""

import struct

import pytest

from tests.faults.wire import Batch, Dialogue, commit

STARTUP = struct.pack("!ii", 8, 196_608)
TLS_REQUEST = struct.pack("!ii", 8, 80_877_103)
INSERT = "INSERT INTO items (name) VALUES ($1)"


def message(kind: bytes, *texts: str, rest: bytes = b"") -> bytes:
    body = b"".join(text.encode() + b"\0" for text in texts) + rest
    return kind + struct.pack("!i", len(body) + 4) + body


def ready(status: bytes) -> bytes:
    return message(b"C", "DONE") + message(b"Z", rest=status)


SYNC = message(b"S")
PARSE = message(b"P", "name", INSERT, rest=b"\0\0") + message(b"H")
EXECUTE = message(b"B", "", "name", rest=b"\0" * 6) + message(b"E", "", rest=b"\0" * 4) + SYNC


@pytest.mark.parametrize("size", [1, 3, 7, 10_000])
def test_messages_are_whole_whatever_they_come_in(size: int) -> None:
    dialogue, batches = Dialogue(), []
    for sent, reply in (
        (TLS_REQUEST, b"N"),
        (STARTUP, ready(b"I")),
        (PARSE, message(b"1")),
        (EXECUTE, ready(b"I")),
        (message(b"Q", "BEGIN"), ready(b"T")),
        (EXECUTE, ready(b"T")),
        (message(b"Q", "COMMIT"), ready(b"I")),
        (message(b"X"), b""),
    ):
        for start in range(0, len(sent), size):
            batches += list(dialogue.sent(sent[start : start + size]))
        for start in range(0, len(reply), size):
            dialogue.received(reply[start : start + size])
    assert b"".join(batch.data for batch in batches).startswith(TLS_REQUEST + STARTUP + PARSE + EXECUTE)
    assert [batch.committed for batch in batches if batch.committed] == [(INSERT,), ("BEGIN", INSERT, "COMMIT")]


def test_what_is_encrypted_passes() -> None:
    dialogue = Dialogue()
    assert list(dialogue.sent(TLS_REQUEST)) == [Batch(TLS_REQUEST)]
    assert dialogue.received(b"S") == []
    assert list(dialogue.sent(b"\x16\x03\x01")) == [Batch(b"\x16\x03\x01")]
    assert dialogue.received(b"\x16\x03\x03") == []


@pytest.mark.parametrize(
    ("statements", "status", "commits"),
    [
        (["insert into items values (1)"], b"I", True),
        (["WITH gone AS (\n  DELETE\nFROM items RETURNING id) SELECT * FROM gone"], b"I", True),
        (["MERGE INTO items USING other ON true WHEN MATCHED THEN DO NOTHING"], b"I", True),
        (["UPDATE items SET name = 'x'"], b"I", True),
        (["UPDATE items SET name = 'x'"], b"T", False),
        (["SELECT updated_at, 'UPDATE items' FROM items -- INSERT INTO items"], b"I", False),
        (["SELECT * FROM items FOR NO KEY UPDATE"], b"I", False),
        (['SELECT $$ DELETE FROM items $$, "update" FROM items'], b"I", False),
        (["BEGIN; INSERT INTO items VALUES (1)"], b"I", False),
        (["BEGIN; INSERT INTO items VALUES (1); COMMIT"], b"I", True),
        (["START TRANSACTION", "INSERT INTO items VALUES (1)", "END"], b"I", True),
        (["COMMIT"], b"T", True),
        (["commit;"], b"T", True),
        (["COMMIT"], b"E", False),
        (["COMMIT"], b"I", False),
        (["COMMIT PREPARED 'x'"], b"T", False),
        (["ROLLBACK"], b"T", False),
        (["SELECT CASE WHEN true THEN 1 END"], b"T", False),
    ],
)
def test_it_is_known_what_commits(statements: list[str], status: bytes, commits: bool) -> None:
    assert commit(statements, status) == commits
