"""What RFC 9112 says that a server must refuse, byte by byte, and what it must not."""

import json
import re
from collections.abc import Iterator

import pytest

from tests.support.serving import ServiceProcess
from tests.support.wire import connected

ITEM = b'{"name":"a","price":1}'
CHUNKS = b"16\r\n" + ITEM + b"\r\n0\r\n\r\n"
HOST, JSON = b"Host: items.test\r\n", b"Content-Type: application/json\r\n"
GET = b"GET /livez HTTP/1.1\r\n"
BAD_HOSTS = [b"", b"a b", b"u@a", b"a/b", b"a, b", b"[::1", b"a:b", b"\xe9"]
STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")
NEXT = b"GET /livez HTTP/1.1\r\nHost: items.test\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with ServiceProcess(f"sqlite:///{tmp_path_factory.mktemp('framing') / 'items.db'}") as service:
        yield service


def post(fields: bytes, body: bytes, version: bytes = b"1.1") -> bytes:
    return b"POST /items HTTP/" + version + b"\r\n" + HOST + JSON + fields + b"\r\n" + body


def exchange(service: ServiceProcess, sent: bytes) -> tuple[list[int], bytes]:
    """Send a request and another one that ends the connection; return the statuses of all responses, and the bytes."""
    with connected(service) as connection, connection.makefile("rb") as stream:
        connection.sendall(sent + NEXT)
        received = stream.read()
    return [int(status) for status in STATUS.findall(received)], received


@pytest.mark.parametrize(
    "head",
    [
        GET + b"\r\n",
        GET + HOST + HOST + b"\r\n",
        GET + HOST + b"X-A: b\r\nHost: other.test\r\n\r\n",
        b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n" + HOST + HOST + b"\r\n",
        *(
            GET + b"Host: " + host + b"\r\n\r\n"
            for host in (b"", b"a b", b"u@a", b"a/b", b"a, b", b"[::1", b"a:b", b"\xe9")
        ),
        b"GET /nowhere HTTP/1.1\r\n\r\n",
        b"POST /items HTTP/1.1\r\n" + JSON + b"Content-Length: 22\r\n\r\n" + ITEM,
        post(b"Transfer-Encoding: gzip, chunked\r\n", CHUNKS),
        post(b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", CHUNKS),
        post(b"Transfer-Encoding: chunked, chunked\r\n", CHUNKS),
        post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: CHUNKED\r\n", CHUNKS),
    ],
    ids=str,
)
def test_a_head_that_could_be_read_in_two_ways_is_refused_and_nothing_after_it_is_read(
    service: ServiceProcess, head: bytes
) -> None:
    with service.client() as client:
        before = client.get("/items?count=true&limit=1").headers["x-total-count"]
        statuses, received = exchange(service, head)
        assert statuses == [400]
        problem = json.loads(received.partition(b"\r\n\r\n")[2])
        assert (problem["code"], problem["status"], problem["retryable"]) == ("invalid-header", 400, False)
        assert b"\r\nconnection: close" in received
        assert client.get("/items?count=true&limit=1").headers["x-total-count"] == before


@pytest.mark.parametrize(
    "sent",
    [
        post(b"Transfer-Encoding: gzip\r\n", CHUNKS),  # 6.3: the length cannot be known
        post(b"Transfer-Encoding: chunked, gzip\r\n", CHUNKS),
        post(b"Transfer-Encoding: chunked\r\n", CHUNKS, version=b"1.0"),  # 6.1: faulty
        post(b"Content-Length: 22\r\nContent-Length: 23\r\n", ITEM),
        post(b"Content-Length: 22, 23\r\n", ITEM),
        post(b"Content-Length: +22\r\n", ITEM),
        GET + b"Host : items.test\r\n\r\n",  # 5.1: no space before the colon
        GET + HOST + b"X-A: b\r\n folded\r\n\r\n",  # 5.2
        GET + HOST + b"X-A: b\rc\r\n\r\n",  # 2.2
        GET + HOST + b"X-A: b\0c\r\n\r\n",
        GET + b" Host: items.test\r\n\r\n",  # 2.2: space before the first field
        b"GET /livez HTTP/1.2\r\n" + HOST + b"\r\n",
    ],
    ids=str,
)
def test_what_granian_refuses_closes_the_connection(service: ServiceProcess, sent: bytes) -> None:
    assert exchange(service, sent)[0] == [400]


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (GET + b"Host: items.test:8000\r\n\r\n", [200, 200]),
        (GET + b"Host: [::1]:8000\r\n\r\n", [200, 200]),
        (GET + b"Host: %41.test:\r\n\r\n", [200, 200]),
        (b"GET http://other.test/livez HTTP/1.1\r\n" + HOST + b"\r\n", [200, 200]),  # 3.2.2
        (b"\r\n" + GET + HOST + b"\r\n", [200, 200]),  # 2.2: an empty line before a request
        (b"GET /livez HTTP/1.0\r\n\r\n", [200]),
        (b"GET /livez HTTP/1.0\r\n" + HOST + b"\r\n", [200]),
        (post(b"Transfer-Encoding: Chunked\r\n", CHUNKS), [201, 200]),
        (post(b"Transfer-Encoding: chunked\r\n", CHUNKS.replace(b"16\r", b"16;name=value\r")), [201, 200]),  # 7.1.1
        (post(b"Transfer-Encoding: chunked\r\n", CHUNKS[:-2] + b"X-Trailer: 1\r\n\r\n"), [201, 200]),
        (post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", CHUNKS), [201]),  # 6.1: closed after the response
    ],
    ids=str,
)
def test_what_may_be_sent_is_served(service: ServiceProcess, sent: bytes, statuses: list[int]) -> None:
    assert exchange(service, sent)[0] == statuses
