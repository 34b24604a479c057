"""BodyReader that are too large: refused before they are read."""

from collections.abc import AsyncIterator

import httpx
import pytest

from service.settings import Settings
from tests.support.responses import JSON, MSGPACK, code, create_item, everything

BYTES_MAX = 1024
CHUNK = b" " * 100
# The rest of a body is read as long as its client sends it unasked.
ASKING = {"content-type": JSON, "expect": "100-continue"}
WRITES = (("POST", "/items"), ("PATCH", "/items"), ("PUT", "/items/1"), ("PATCH", "/items/1"))

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)  # it is not asked
small = pytest.mark.parametrize("settings", [{"body_bytes_max": BYTES_MAX}], indirect=True)


class Upload:
    """A body that is sent in chunks, and counts them."""

    def __init__(self, chunks: int, chunk: bytes = CHUNK) -> None:
        self.chunks = chunks
        self.chunk = chunk
        self.sent = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self.sent < self.chunks:
            self.sent += 1
            yield self.chunk


def padded(size: int) -> bytes:
    """Make an item of so many bytes."""
    return b'{"name": "lamp", "price": 1}'.ljust(size)


@small
async def test_a_body_that_is_announced_as_too_large_is_not_read(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    for method, url in WRITES:
        for size in (BYTES_MAX + 1, 10**9, 2**63, 10**18):
            body = Upload(chunks=100)
            headers = {**ASKING, "content-length": str(size)}
            response = await client.request(method, url, content=body, headers=headers)
            assert code(response) == (413, "body-too-large"), (method, url, size)
            assert str(BYTES_MAX) in response.json()["detail"]
            assert body.sent == 0
    assert await everything(client) == [item]


@small
async def test_a_body_that_is_not_announced_is_read_until_it_is_too_large(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    for method, url in WRITES:
        body = Upload(chunks=1000)
        response = await client.request(method, url, content=body, headers=ASKING)
        assert response.request.headers["transfer-encoding"] == "chunked"
        assert code(response) == (413, "body-too-large"), (method, url)
        assert body.sent < 20
    assert await everything(client) == [item]


@small
async def test_a_body_that_was_announced_as_smaller_is_read_to_the_announced_length(client: httpx.AsyncClient) -> None:
    body = Upload(chunks=1000, chunk=padded(28))
    headers = {"content-type": JSON, "content-length": "28"}
    response = await client.post("/items", content=body, headers=headers)
    assert (response.status_code, body.sent) == (201, 1)


@small
@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_may_have_all_the_bytes_there_are(client: httpx.AsyncClient, announced: bool) -> None:
    statuses = []
    for size in (BYTES_MAX - 1, BYTES_MAX, BYTES_MAX + 1):
        content = padded(size)
        body = content if announced else Upload(1, content)
        statuses.append((await client.post("/items", content=body, headers={"content-type": JSON})).status_code)
    assert statuses == [201, 201, 413]


@small
async def test_a_body_may_come_byte_by_byte(client: httpx.AsyncClient) -> None:
    content = padded(28)

    async def bytewise() -> AsyncIterator[bytes]:
        for position in range(len(content)):
            yield content[position : position + 1]
            yield b""

    for headers in ({"content-type": JSON}, {"content-type": JSON, "content-length": "28"}):
        response = await client.post("/items", content=bytewise(), headers=headers)
        assert response.status_code == 201


@small
@pytest.mark.parametrize("length", ["-1", "+28", "28.0", "", "x", "0x1c", " ", "9" * 30, "9" * 5000, "\u00b2"])
async def test_a_length_that_is_none_announces_nothing(client: httpx.AsyncClient, length: str) -> None:
    headers = [(b"content-type", JSON.encode()), (b"content-length", length.encode("latin-1"))]
    response = await client.post("/items", content=Upload(1, padded(28)), headers=headers)
    assert response.status_code == 201
    response = await client.post("/items", content=Upload(1000), headers=headers)
    assert code(response) == (413, "body-too-large")


@small
async def test_what_takes_no_body_reads_none(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    for method, url, status in (
        ("GET", "/items", 200),
        ("GET", "/livez", 200),
        ("DELETE", f"/items/{item['id']}", 204),
    ):
        body = Upload(chunks=1000)
        headers = {"content-length": str(10**9)}
        assert (await client.request(method, url, content=body, headers=headers)).status_code == status
        assert body.sent == 0


async def test_the_bound_is_the_one_of_the_settings_unless_set_otherwise(client: httpx.AsyncClient) -> None:
    bytes_max = Settings().body_bytes_max
    statuses = [
        (await client.post("/items", content=padded(size), headers={"content-type": JSON})).status_code
        for size in (bytes_max, bytes_max + 1)
    ]
    assert statuses == [201, 413]


async def test_the_bound_is_for_every_form(client: httpx.AsyncClient) -> None:
    response = await client.post(
        "/items", content=bytes(Settings().body_bytes_max + 1), headers={"content-type": MSGPACK}
    )
    assert code(response) == (413, "body-too-large")
