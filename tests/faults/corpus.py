"""Requests that no client should send, byte by byte, made from small tables."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

JSON = b"application/json"
MSGPACK = b"application/msgpack"
Fields = Sequence[tuple[bytes, bytes]]
LAMP = b'{"name":"lamp","price":1}'
CLOSE = (b"Connection", b"close")
HOST = (b"Host", b"items.test")
CHUNKED = (b"Transfer-Encoding", b"chunked")


class Case(NamedTuple):
    """What is sent over a connection of its own, to whose end the server must come by itself.

    After a case that is cut off its client stops sending: the server would be right to wait for the rest.
    """

    name: str
    sent: bytes
    is_cut_off: bool = False


def corpus() -> list[Case]:
    """Return all there are, each once. They are for a service with a first item, which none of them deletes."""
    every = [
        *_methods(),
        *_request_lines(),
        *_paths(),
        *_queries(),
        *_headers(),
        *_negotiations(),
        *_preconditions(),
        *_framings(),
        *_chunks(),
        *_json_bodies(),
        *_msgpack_bodies(),
        *_pipelines(),
        *_cut_offs(),
    ]
    distinct = {case.sent: case for case in every}.values()
    return [case._replace(name=f"{number} {case.name}") for number, case in enumerate(distinct)]


def _request(
    method: bytes, target: bytes, fields: Fields = (), body: bytes = b"", *, base: Fields = (HOST, CLOSE)
) -> bytes:
    """Write a request down that asks for the connection's end, so that there is one also if all is well."""
    lines = [b"%s %s HTTP/1.1" % (method, target), *(b"%s: %s" % field for field in (*base, *fields)), b"", b""]
    return b"\r\n".join(lines) + body


def _with_body(method: bytes, target: bytes, body: bytes, *, form: bytes = JSON, fields: Fields = ()) -> bytes:
    own = (b"Content-Type", form), (b"Content-Length", b"%d" % len(body))
    return _request(method, target, (*own, *fields), body)


def _named(family: str, sent: Iterable[tuple[object, bytes]], *, is_cut_off: bool = False) -> Iterator[Case]:
    for what, request in sent:
        yield Case(f"{family}: {str(what)[:60]}", request, is_cut_off)


METHODS = (
    b"get|Get|POST|PUT|PATCH|DELETE|HEAD|OPTIONS|TRACE|CONNECT|PURGE|PROPFIND|QUERY|G@T|G\xc9T|G\0T|G\tT||\xff".split(
        b"|"
    )
)


def _methods() -> Iterator[Case]:
    for method in [*METHODS, b"A" * 1000, b"A" * 100_000]:
        for target in (b"/items", b"/items/2", b"/livez"):
            yield from _named("method", [(f"{method!r:.30} {target.decode()}", _request(method, target))])


REST = b"\r\nHost: items.test\r\nConnection: close\r\n\r\n"
REQUEST_LINES = [
    *(b"GET", b"GET ", b"GET /livez", b"GET /livez ", b"GET /livez HTTP", b"GET /livez HTTP/", b"GET /livez HTTP/1"),
    *(b"GET /livez HTTP/1.", b"GET /livez HTTP/1.0", b"GET /livez HTTP/1.2", b"GET /livez HTTP/1.10"),
    *(b"GET /livez HTTP/11", b"GET /livez HTTP/0.9", b"GET /livez HTTP/2.0", b"GET /livez HTTP/3"),
    *(b"GET /livez http/1.1", b"GET /livez HTTPS/1.1", b"GET /livez HTTP/1.1 x", b"GET /livez HTTP/1.1\0"),
    *(b"GET /livez /readyz HTTP/1.1", b"GET  /livez  HTTP/1.1", b"GET\t/livez\tHTTP/1.1", b" GET /livez HTTP/1.1"),
    *(b"\r\n\r\nGET /livez HTTP/1.1", b"\0GET /livez HTTP/1.1", b"\xef\xbb\xbfGET /livez HTTP/1.1"),
    *(b"GET\r/livez HTTP/1.1", b"GET * HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET livez HTTP/1.1"),
    *(b"GET ?limit=1 HTTP/1.1", b"GET # HTTP/1.1", b"GET http://items.test/livez HTTP/1.1"),
    *(b"GET http://other.test:99999/livez HTTP/1.1", b"GET http://[::1/livez HTTP/1.1"),
    *(b"GET http:///livez HTTP/1.1", b"GET ftp://items.test/livez HTTP/1.1", b"GET javascript:alert(1) HTTP/1.1"),
    *(b"GET items.test:80 HTTP/1.1", b"CONNECT items.test:80 HTTP/1.1", b"CONNECT /items HTTP/1.1"),
    *(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x07" * 60, b"SSH-2.0-client", b"EHLO items.test"),
    *(b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"*1\r\n$4\r\nPING", b"<xml/>", b"{}"),
    bytes(range(256)),
    b"\xff" * 1000,
]


def _request_lines() -> Iterator[Case]:
    yield from _named("request line", ((line, line + REST) for line in REQUEST_LINES))
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield Case("request line: the preface of HTTP/2", preface + b"\0\0\0\4\0\0\0\0\0", is_cut_off=True)
    yield Case("request line: ends of lines without CR", _request(b"GET", b"/livez").replace(b"\r\n", b"\n"))
    yield Case(
        "request line: ends of lines without LF", _request(b"GET", b"/livez").replace(b"\r\n", b"\r"), is_cut_off=True
    )
    yield Case("request line: nothing but ends of lines", b"\r\n" * 2000, is_cut_off=True)
    yield Case("request line: 100 KiB of address", _request(b"GET", b"/" + b"x" * 102_400))


# What may stand for an id.
IDS = [
    *(str(number).encode() for number in (0, -1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), -(2**63) - 1)),
    *(b"9" * length for length in (100, 4300, 4301, 60_000)),
    *(b"+1", b"01", b"1.0", b"1e3", b"0x1", b"1_0", b"1;v=1", b"1,2", b"1/", b"1//", b"1/2", b"-", b"'", b'"', b"<"),
    *(b"nan", b"null", b"true", b"None", b"{id}", b"[1]", b"\\", b"|", b"^", b"`", b"\x7f", b"\x80", b"\xff\xfe"),
    *(b"%", b"%2", b"%zz", b"%00", b"%31", b"%2F1", b"%2e%2e", b"%C0%AF", b"%FF", b"%ED%A0%80", b"%E2%82"),
    *(b"1%20", b"1%0d%0aX-A:%20b", b"%25%30", b"%EF%BC%91", b"%D9%A1", b"%f0%9f%92%a1", "é".encode()),
]
TARGETS = [
    *(b"//", b"/./items", b"/../items", b"/items/../items/1", b"/%69tems", b"//items", b"/items/", b"/items?"),
    b"/x\\y",
    *(b"/ITEMS", b"/items%00", b"/items%2F1", b"/.env", b"/" + b"a/" * 5000, b"/" + b"%41" * 9000, b"/items#1"),
]


def _paths() -> Iterator[Case]:
    yield from _named("path", ((target, _request(b"GET", target)) for target in TARGETS))
    yield from _named("id", ((id, _request(b"GET", b"/items/" + id)) for id in IDS))
    yield from _named("deleted id", ((id, _request(b"DELETE", b"/items/" + id)) for id in IDS[:9]))


NUMBERS = [
    *(b"", b"0", b"-1", b"-0", b"%2B5", b"1001", b"1e2", b"1.5", b"0x10", b"NaN", b"Infinity", b"-Infinity"),
    b"1e400",
    *(b"9" * 400, str(2**63 - 1).encode(), str(2**63).encode(), str(-(2**63)).encode(), b"%00", b"%FF", b"%31"),
]
QUERIES = [
    *(b"", b"&", b"&&", b"=", b"=1", b"limit", b"limit=1&limit=1", b"limit=1;offset=1", b"%6Cimit=1", b"LIMIT=1"),
    b"x=1",
    *(b"limit=1&%00=1", b"limit=%E2%82", b"limit[]=1", b"limit=1#", b"?limit=1", b"limit==1", b"limit=1&" * 5000),
    *(b"count=maybe", b"count=2", b"in_stock=null", b"in_stock=", b"order=", b"order=--id", b"order=id,name"),
    b"order=%00",
    *(b"name_prefix=", b"name_prefix=%00", b"name_prefix=%F4%8F%BF%BF", b"name_prefix=%ED%A0%80", b"name_prefix=%FF"),
    *(b"name_prefix=%25_", b"name_prefix=" + b"x" * 256, b"name_prefix='%3B--", b"price_min=2&price_max=1"),
    *(b"ids=", b"ids=,", b"ids=1,1", b"ids=1,", b"ids=a", b"ids=1%2C2", b"ids=0", b"ids=-1", b"ids=1&limit=1"),
    b"ids=1,,2",
    *(b"ids=" + b",".join(b"%d" % (n + 1) for n in range(count)) for count in (1001, 9000)),
    b"ids=%d" % (2**63),
]
CURSORS = [
    *(b"", b"=", b"====", b"a", b"AAAA", b"!!!!", b"%00", b"%FF", b"_" * 40, b"A" * 50_000, b"bnVsbA", "é".encode()),
    *(b"AAAAAAAAk6JpZAEB", b"AAAAAAAAk6JpZM9__________8__________", b"AAAAAAAA3f____8", b"AAAAAAAA" + b"kZGR" * 9000),
]


def _queries() -> Iterator[Case]:
    every = [*QUERIES, *(b"after=" + cursor for cursor in CURSORS)]
    every += [name + number for name in (b"limit=", b"offset=", b"price_min=", b"price_max=") for number in NUMBERS]
    yield from _named("query", ((query, _request(b"GET", b"/items?" + query)) for query in every))
    for order in (b"name", b"-price", b"created_at"):
        target = b"/items?order=%s&after=%s" % (order, CURSORS[-4])
        yield from _named("cursor of another order", [(order, _request(b"GET", target))])
    yield from _named(
        "deleted ids", ((q, _request(b"DELETE", b"/items?" + q)) for q in (*QUERIES[:3], b"ids=", b"ids=1,1", b"ids=x"))
    )
    yield from _named("query of a probe", ((q, _request(b"GET", b"/livez?" + q)) for q in (b"x", b"%00", b"%FF=1")))


HEADER_LINES = [
    *(b": x", b"X A: b", b"X-A : b", b"X-A", b" X-A: b", b"\tX-A: b", b"X-A: b\r\n folded", b"X-A: b\r\n\tfolded"),
    b"X-\xc3\xa9: b",
    *(b"X-A: \0", b"X-A: a\rb", b"X-A: a\nX-B: b", b"X-A: \x01", b"X-A: \x7f", b"X-A: \x80\xff", b"X-A:", b"X-A:b"),
    b"X@A: b",
    *(b"X-A: " + b"x" * length for length in (8_000, 60_000, 70_000, 500_000)),
    *(b"\r\n".join([b"X-A: b"] * count) for count in (90, 100, 101, 10_000)),
    *(b"x" * 70_000 + b": a", b"Host: a\r\nHost: b", b"Host:", b"Host: a b", b"Host: [::1", b"Host: \xff"),
    b"Host: " + b"h" * 9000,
    b"Connection: upgrade\r\nUpgrade: websocket",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZQ==",
    *(b"Connection: host", b"Connection: ,,", b"Keep-Alive: timeout=-1", b"TE: trailers", b"Trailer: Host"),
    b"Range: bytes=9-1",
    *(b"Expect: 100-continue", b"Expect: miracles", b"Cookie: " + b"a=b; " * 900, b"Authorization: Basic \xff"),
    b"Date: never",
    *(b"X-Request-ID:", b"X-Request-ID: " + b"a" * 129, b"X-Request-ID: a b", b"X-Request-ID: \xff"),
    b"X-Request-ID: a\r\nX-Request-ID: b",
    *(b"X-Forwarded-For: ::::", b"Forwarded: for=\xff", b"If-Modified-Since: x", b"Content-Encoding: gzip"),
    b"Accept-Encoding: \xff",
]


def _headers() -> Iterator[Case]:
    for line in HEADER_LINES:
        sent = _request(b"GET", b"/items").replace(b"Connection: close", line + b"\r\nConnection: close")
        yield from _named("header", [(line, sent)])
    yield Case("header: none", b"GET /livez HTTP/1.1\r\n\r\n", is_cut_off=True)
    yield Case("header: no Host", _request(b"GET", b"/livez", base=[CLOSE]))


FORMS = [
    *(b"", b";", b"/", b"json", b"*/*", b"application/*", b"text/plain", b"application/x-www-form-urlencoded"),
    b"\xff",
    *(b"multipart/form-data", b"application/json; charset=utf-16", b"application/json; charset"),
    b"application/json;;;",
    *(b'application/json; a="', b"application/json, application/msgpack", b"APPLICATION/JSON"),
    b"application/json\t;q=\x01",
    *(b"application/msgpack", b"application/" + b"j" * 9000, b"application/json" + b";a=b" * 5000),
]
ACCEPTED = [
    *(b"", b",", b"*", b"*/json", b"text/html", b"*/*;q=0", b"*/*;q=-1", b"*/*;q=nan", b"*/*;q=1e9", b"*/*;q=1.0000"),
    *(b"*/*;q=", b"*/*;q", b";q=1", b"application/json;q=0,application/msgpack;q=0", b'application/json;a="'),
    b"\xff",
    *(b"application/json;q=0.5;q=0.7", b"a/b," * 9000, b"*/*;q=0." + b"1" * 9000, b"application/json;version=2"),
    b"\x01",
]


def _negotiations() -> Iterator[Case]:
    yield from _named("content type", ((form, _with_body(b"POST", b"/items", LAMP, form=form)) for form in FORMS))
    yield Case("content type: none", _request(b"POST", b"/items", [(b"Content-Length", b"2")], b"{}"))
    yield from _named("accept", ((form, _request(b"GET", b"/items", [(b"Accept", form)])) for form in ACCEPTED))


TAGS = [
    *(b"", b"*", b"**", b"* , *", b'*, "1-json"', b'"', b'""', b'"1-json', b'1-json"', b"1-json"),
    b'"1-json" "2-json"',
    *(b'W/"1-json"', b'w/"1-json"', b'W/ "1-json"', b'"0-json"', b'"-1-json"', b'"01-json"', b'"\xff"', b'"\x01"'),
    b",,,",
    *(b'"%d-json"' % 2**63, b'"%d-json"' % 2**64, b'"' + b"9" * 5000 + b'-json"', b'"1-json",' * 5000),
    b'"' + b"x" * 60_000,
]
KEYS = [
    *(b"", b" ", b'""', b'"a', b"a" * 255, b"a" * 256, b"a" * 257, b"a" * 10_000, b"a\x01b", b"a\tb", b"\x7f"),
    *(b"\xff\xfe", b"a b"),
    *(b"a, b", "é".encode(), b"a\r\nIdempotency-Key: b", b"'; --", b"%00", b"\x80", b"../..", b"{}", b"null"),
]
TIMEOUTS = [
    *(b"", b" ", b"0", b"-0", b"-1", b"nan", b"-nan", b"inf", b"-Infinity", b"1e400", b"1e-400", b"9" * 400),
    b"0.0000001",
    *(b"1,5", b"1s", b"0x1", b"1_0", b"\xff", b"\xd9\xa1", b"1, 2", b"1\r\nX-Request-Timeout: 2", b"+5", b".5"),
    *(b"5.", b"%d" % 2**63),
]


def _preconditions() -> Iterator[Case]:
    patch = b'{"price":2}'
    for tag in TAGS:
        matching = _with_body(b"PATCH", b"/items/1", patch, fields=[(b"If-Match", tag)])
        yield from _named("If-Match", [(tag, matching)])
        yield from _named("If-None-Match", [(tag, _request(b"GET", b"/items/1", [(b"If-None-Match", tag)]))])
    yield from _named("If-Match of a set", [("*", _with_body(b"POST", b"/items", LAMP, fields=[(b"If-Match", b"*")]))])
    for key in KEYS:
        fields = [(b"Idempotency-Key", key)]
        yield from _named("key", [(key, _with_body(b"POST", b"/items", LAMP, fields=fields))])
        yield from _named("key of a deletion", [(key, _request(b"DELETE", b"/items/2", fields))])
    for timeout in TIMEOUTS:
        yield from _named("timeout", [(timeout, _request(b"GET", b"/items/1", [(b"X-Request-Timeout", timeout)]))])


LENGTHS = [
    *(b"", b" ", b"-1", b"+25", b"25.0", b"0x19", b"25 25", b"25, 25", b"25, 26", b"25,", b"2 5", b"25\0"),
    b"\xd9\xa2\xd9\xa5",
    *(b"025", b"0" * 100 + b"25", b"25;", b"1e2", b"%d" % 2**63, b"%d" % 2**64, b"%d" % (2**64 + 25), b"9" * 5000),
    b"\xb2",
]
ENCODINGS = [
    *(b"", b"chunked", b"Chunked", b"CHUNKED ", b"chunked, chunked", b"gzip, chunked", b"chunked, gzip", b"identity"),
    *(b"gzip", b"xchunked", b"chunked;q=1", b"chunked,", b",chunked", b"chunked\x0b", b"\x00chunked", b'"chunked"'),
]
EMPTY_CHUNKS = b"0\r\n\r\n"
TYPE = (b"Content-Type", JSON)


def _framings() -> Iterator[Case]:
    """Return what one server in a chain may see as one request and the next as two."""
    smuggled = LAMP + b"GET /smuggled HTTP/1.1\r\nHost: items.test\r\n\r\n"
    for length in LENGTHS:
        yield Case(
            f"length: {length!r:.40}",
            _request(b"POST", b"/items", [TYPE, (b"Content-Length", length)], LAMP),
            is_cut_off=True,
        )
    for lengths in ((b"25", b"25"), (b"25", b"26"), (b"0", b"25"), (b"25", b"")):
        fields = [TYPE, *((b"Content-Length", length) for length in lengths)]
        yield Case(f"lengths: {lengths!r}", _request(b"POST", b"/items", fields, LAMP), is_cut_off=True)
    for encoding in ENCODINGS:
        for extra in ([], [(b"Content-Length", b"5")]):
            fields = [TYPE, (b"Transfer-Encoding", encoding), *extra]
            name = f"encoding: {encoding!r}{' and a length' if extra else ''}"
            yield Case(
                name, _request(b"POST", b"/items", fields, b"19\r\n%s\r\n%s" % (LAMP, EMPTY_CHUNKS)), is_cut_off=True
            )
    for fields in (
        [CHUNKED, CHUNKED],
        [CHUNKED, (b"Transfer-Encoding", b"identity")],
        [(b"Transfer-Encoding ", b"chunked")],
        [(b"Transfer-Encoding", b"\r\n chunked")],
        [(b"Transfer_Encoding", b"chunked"), (b"Content-Length", b"25")],
        [(b"Content-Length", b"25"), CHUNKED],
    ):
        yield Case(f"framing: {fields!r}", _request(b"POST", b"/items", [TYPE, *fields], smuggled), is_cut_off=True)
    old = _request(b"POST", b"/items", [TYPE, CHUNKED], EMPTY_CHUNKS).replace(b"HTTP/1.1", b"HTTP/1.0")
    yield Case("framing: chunks in HTTP/1.0", old, is_cut_off=True)
    yield Case("framing: a body of GET", _request(b"GET", b"/items", [(b"Content-Length", b"25")], LAMP))
    yield Case("framing: chunks of GET", _request(b"GET", b"/livez", [CHUNKED], EMPTY_CHUNKS))
    yield Case(
        "framing: more than was announced", _request(b"POST", b"/items", [TYPE, (b"Content-Length", b"25")], smuggled)
    )
    yield Case("framing: neither length nor chunks", _request(b"POST", b"/items", [TYPE], LAMP))
    too_large = [TYPE, (b"Content-Length", b"999999999")]
    yield Case("framing: too large", _request(b"POST", b"/items", too_large, b" " * 300_000), is_cut_off=True)


CHUNKS = [
    *(b"zz\r\n", b"-1\r\n", b"+19\r\n", b"0x19\r\n", b" 19\r\n", b"19 \r\n", b"\r\n", b"19;\r\n", b"19;a=b\r\n"),
    b'19;a="\r\n"\r\n',
    *(b"19\n", b"19\r", b"1_9\r\n", b"19;" + b"x" * 20_000 + b"\r\n", b"0" * 30 + b"19\r\n", b"F" * 16 + b"\r\n"),
    b"F" * 17 + b"\r\n",
    *(b"7FFFFFFFFFFFFFFF\r\n", b"8000000000000000\r\n", b"18\r\n", b"1A\r\n", b"\0\r\n", b"\xd9\xa1\r\n"),
    b"19\r\n\r\n",
]
TRAILERS = [
    *(b"X-A: b\r\n\r\n", b"Content-Length: 5\r\n\r\n", b": x\r\n\r\n", b"X-A\r\n\r\n", b"X-A: b\r\n" * 200 + b"\r\n"),
    *(b"\0\r\n\r\n", b"x" * 100_000),
]


def _chunks() -> Iterator[Case]:
    head = _request(b"POST", b"/items", [TYPE, CHUNKED])
    for size in CHUNKS:
        yield Case(f"chunk: {size!r:.40}", head + size + LAMP + b"\r\n" + EMPTY_CHUNKS, is_cut_off=True)
    for trailer in TRAILERS:
        yield Case(f"trailer: {trailer!r:.40}", head + b"19\r\n%s\r\n0\r\n" % LAMP + trailer, is_cut_off=True)
    yield Case("chunk: no end", head + b"19\r\n%s\r\n" % LAMP, is_cut_off=True)
    yield Case("chunk: byte by byte", head + b"".join(b"1\r\n%c\r\n" % byte for byte in LAMP) + EMPTY_CHUNKS)
    yield Case("chunk: no line between", head + b"19\r\n%s0\r\n\r\n" % LAMP, is_cut_off=True)
    yield Case("chunk: something after the end", head + b"19\r\n%s\r\n" % LAMP + EMPTY_CHUNKS + b"x" * 1000)


VALUES = [
    *(b"null", b"true", b"1", b'"x"', b"[]", b"{}", b"NaN", b"Infinity", b"-Infinity", b"-0", b"-0.0", b"1e400"),
    b"-1e400",
    *(b"1e-400", b"1" * 400, b"1" * 5000, b"%d" % 2**63, b"%d" % 2**64, b"0.1" + b"0" * 5000, b"1.", b".5", b"+1"),
    *(b"01", b"1e", b"0x1"),
]
NAMES = [
    *(b'""', b'"\\u0000"', b'"a\\u0000b"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"', b'"\xff"'),
    b'"\xed\xa0\x80"',
    *(b'"\xc0\x80"', b'"\x00"', b'"\n"', b'"\\x"', b'"\\u12"', b'"' + b"x" * 256 + b'"'),
    *(b'"' + b"\xf0\x9f\x92\xa1" * 255 + b'"', b'"\x7f"'),
]
JSON_BODIES = [
    *(b"", b" ", b"null", b"0", b'""', b"[]", b"{}", b"[[]]", b"[{}]", b"[null]", b"{", b"}", b"[", b"]", b'"', b","),
    *(b":", b"{,}"),
    *(
        LAMP[:-1],
        LAMP + b"x",
        LAMP + LAMP,
        LAMP + b",",
        b"[" + LAMP,
        LAMP.replace(b'"', b"'"),
        b"\xef\xbb\xbf" + LAMP,
        b"\0" + LAMP,
    ),
    *(LAMP.decode().encode(encoding) for encoding in ("utf-16", "utf-32", "utf-16-be", "utf-7")),
    *(b"[" * depth for depth in (100, 1000, 100_000)),
    *(b'{"name":' * depth for depth in (1000, 100_000)),
    *(b'{"x":' + b"[" * depth + b"]" * depth + b"}" for depth in (500, 100_000)),
    *(b'{"name":"a","name":"b","price":1}', b'{"name":"a","price":1,"price":"x"}', b'{"name":"a","price":1,"x":1}'),
    b'{"":1}',
    *(b'{"name":"a","price":1,"in_stock":"yes"}', b'{"name":"a","price":1,"in_stock":null}'),
    b'{"name":"a","price":1,"id":1}',
    *(b'{"name":"a","price":1,"version":1}', b'{"__proto__":{}}', b"{1:2}", b'{"price":1}', b'{"name":"a"}'),
    b"// x\n" + LAMP,
    *(b"[" + b",".join([LAMP] * count) + b"]" for count in (1001, 20_000)),
    *(
        b"[" + b"1," * 50_000 + b"1]",
        b" " * 100_000 + LAMP,
        b'{"' + b"k" * 100_000 + b'":1}',
        bytes(range(256)),
        b"\xff" * 1000,
    ),
]
SET_PATCHES = [
    *(b'[{"id":1},{"id":1}]', b'[{"id":0}]', b'[{"id":-1}]', b'[{"price":1}]', b'[{"id":"1"}]', b'[{"id":1.5}]'),
    b'[{"id":null}]',
    *(b'[{"id":%d}]' % id for id in (2**63 - 1, 2**63, 2**64)),
    *(b'[{"id":1,"version":%d}]' % version for version in (0, -1, 2**31, 2**63 - 1, 2**63)),
    *(b'[{"id":1,"name":null}]', b'[{"id":1,"x":1}]', b'{"id":1}', b'[{"id":1,"price":1e308}]', b'[{"id":1},null]'),
]


def _json_bodies() -> Iterator[Case]:
    prices = (b'{"name":"lamp","price":%s}' % value for value in VALUES)
    bulbs = (b'{"name":%s,"price":1}' % name for name in NAMES)
    for body in (*JSON_BODIES, *prices, *bulbs):
        yield from _named("JSON", [(f"{len(body)} {body!r}", _with_body(b"POST", b"/items", body))])
    for body in SET_PATCHES:
        yield from _named("JSON of a set", [(repr(body), _with_body(b"PATCH", b"/items", body))])
    for value in (*VALUES[:14], *NAMES[:6]):
        for method, body in (
            (b"PUT", b'{"name":%s,"price":%s}' % (value, value)),
            (b"PATCH", b'{"in_stock":%s}' % value),
        ):
            name = f"{method.decode()} {value!r:.40}"
            yield from _named("JSON of an item", [(name, _with_body(method, b"/items/1", body))])


def _packed(**fields: Any) -> bytes:
    return msgspec.msgpack.encode({"name": "lamp", "price": 1.0, **fields})


ODD: Sequence[Any] = (None, True, 0, -1, 2**63, 2**64 - 1, "", "1", "\0", "\U0010ffff", "x" * 256, b"", b"lamp", [], {})
MSGPACK_BODIES = [
    *(b"", b"\xc0", b"\xc1", b"\x80", b"\x90", b"\xff", b"\xa1", b"\xa1\xff", b"\x81", b"\x81\xa4name"),
    *(b"\xdf\xff\xff\xff\xff", b"\xd9"),
    *(b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc7\x00\x01"),
    *(b"\xd6\xff\0\0\0\0", b"\xd4\x05\0", b"\xc9\xff\xff\xff\xff\x01"),
    *(b"\x91" * depth for depth in (100, 1000, 100_000)),
    *(b"\x81\xa1x" * depth for depth in (1000, 100_000)),
    b"\x81\xa1x" + b"\x91" * 100_000 + b"\xc0",
    *(_packed(price=float(value)) for value in ("nan", "inf", "-inf", "-0.0", "1e308", "5e-324")),
    *(_packed(**{name: value}) for name in ("price", "name", "in_stock") for value in ODD),
    *(
        _packed().replace(b"lamp", name)
        for name in (b"\xff\xff\xff\xff", b"\xed\xa0\x80x", b"a\0b\0", b"\xc0\x80\xc0\x80")
    ),
    *(
        _packed() + b"\0",
        _packed() * 2,
        _packed()[:-1],
        _packed(x=1),
        LAMP,
        b"\x82\xa4name\xa1a\xa4name\xa1b",
        b"\x82\x01\x02\xc0\xc0",
    ),
    *(msgspec.msgpack.encode([{"name": "lamp", "price": 1}] * count) for count in (1001, 20_000)),
]


def _msgpack_bodies() -> Iterator[Case]:
    for body in MSGPACK_BODIES:
        yield from _named(
            "MessagePack", [(f"{len(body)} {body!r}", _with_body(b"POST", b"/items", body, form=MSGPACK))]
        )
        as_json = _with_body(b"PUT", b"/items/1", body)
        yield from _named("MessagePack sent as JSON", [(f"{len(body)} {body!r}", as_json)])


def _pipelines() -> Iterator[Case]:
    kept = _request(b"GET", b"/livez", base=[HOST])
    last = _request(b"GET", b"/livez")
    write = _with_body(b"POST", b"/items", LAMP).replace(b"Connection: close\r\n", b"")
    refused = write.replace(b"lamp", b"\xff\xff\xff\xff")
    for name, parts in {
        "a hundred": [kept] * 100 + [last],
        "writes between reads": [write, kept] * 20 + [last],
        "refused ones between": [refused, kept] * 20 + [last],
        "nonsense after one": [kept, b"nonsense\r\n\r\n"],
        "nonsense before one": [b"nonsense\r\n\r\n", last],
        "something after the last": [last, b"x" * 1000],
        "ends of lines between": [kept, b"\r\n\r\n\r\n", last],
        "a body that GET has": [
            _request(b"GET", b"/livez", [(b"Content-Length", b"%d" % len(last))], base=[HOST]),
            last,
            last,
        ],
        "one that closes before others": [last, kept, write],
        "HEAD between": [kept.replace(b"GET", b"HEAD"), kept, last],
    }.items():
        yield Case(f"pipeline: {name}", b"".join(parts))
    yield Case("pipeline: the last is cut off", kept * 3 + write[:-5], is_cut_off=True)


def _cut_offs() -> Iterator[Case]:
    whole = _with_body(b"POST", b"/items", LAMP, fields=[(b"Accept", JSON), (b"X-Request-ID", b"cut-off")])
    for length in (
        0,
        1,
        4,
        10,
        15,
        20,
        40,
        80,
        whole.index(b"\r\n\r\n") + 2,
        *range(len(whole) - len(LAMP), len(whole), 4),
    ):
        yield Case(f"cut off after {length}", whole[:length], is_cut_off=True)
    yield Case(
        "cut off while the server asks",
        _with_body(b"PUT", b"/items/1", b"", fields=[(b"Expect", b"100-continue"), (b"Content-Length", b"9")]),
        is_cut_off=True,
    )
    asked = _request(b"POST", b"/items", [TYPE, (b"Expect", b"100-continue"), (b"Content-Length", b"25")])
    yield Case("cut off after asking", asked, is_cut_off=True)
    yield Case("nothing but a large head", b"GET /livez HTTP/1.1\r\nX-A: " + b"x" * 60_000, is_cut_off=True)
    yield Case(
        "one byte of a large body",
        _request(b"POST", b"/items", [TYPE, (b"Content-Length", b"4000000")], b"{"),
        is_cut_off=True,
    )
