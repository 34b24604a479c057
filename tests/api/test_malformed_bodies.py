"""BodyReader that cannot be decoded, or hardly: refused, whatever is in them, and nothing changes."""

import struct
from typing import Any

import httpx
import msgspec
import pytest

from tests.support.responses import JSON, MSGPACK, code, create_batch, everything, pointers

LAMP = {"name": "lamp", "price": 1}
DEPTH = 200_000
DIGITS = b"9" * 5000

MALFORMED_JSON = {
    "nothing": b"",
    "blanks": b" \t\r\n",
    "NUL": b"\x00",
    "only a beginning": b"{",
    "only an end": b"}",
    "the wrong end": b'{"name": "lamp", "price": 1]',
    "no end": b'{"name": "lamp", "price": 1',
    "no end of a string": b'{"name": "lamp',
    "no value": b'{"name": "lamp", "price": }',
    "no colon": b'{"name" "lamp", "price": 1}',
    "no comma": b'{"name": "lamp" "price": 1}',
    "one comma more": b'{"name": "lamp", "price": 1,}',
    "one comma more in a list": b'[{"name": "lamp", "price": 1},]',
    "single quotes": b"{'name': 'lamp', 'price': 1}",
    "no quotes": b'{name: "lamp", "price": 1}',
    "a comment": b'{"name": "lamp", "price": 1 /* cheap */}',
    "NaN": b'{"name": "lamp", "price": NaN}',
    "Infinity": b'{"name": "lamp", "price": Infinity}',
    "minus Infinity": b'{"name": "lamp", "price": -Infinity}',
    "a plus sign": b'{"name": "lamp", "price": +1}',
    "a minus sign": b'{"name": "lamp", "price": -}',
    "no digit before the point": b'{"name": "lamp", "price": .5}',
    "no digit after the point": b'{"name": "lamp", "price": 1.}',
    "no digit in the exponent": b'{"name": "lamp", "price": 1e}',
    "a zero in front": b'{"name": "lamp", "price": 01}',
    "hexadecimal digits": b'{"name": "lamp", "price": 0x10}',
    "an underscore": b'{"name": "lamp", "price": 1_0}',
    "Python's True": b'{"name": "lamp", "price": 1, "in_stock": True}',
    "undefined": b'{"name": "lamp", "price": undefined}',
    "garbage behind": b'{"name": "lamp", "price": 1}x',
    "a second body behind": b'{"name": "lamp", "price": 1}{"name": "lamp", "price": 1}',
    "a second line behind": b'{"name": "lamp", "price": 1}\n{"name": "lamp", "price": 1}',
    "NUL behind": b'{"name": "lamp", "price": 1}\x00',
    "a mark of byte order": b'\xef\xbb\xbf{"name": "lamp", "price": 1}',
    "UTF-16": '{"name": "lamp", "price": 1}'.encode("utf-16"),
    "UTF-16 without a mark": '{"name": "lamp", "price": 1}'.encode("utf-16-le"),
    "UTF-32": '{"name": "lamp", "price": 1}'.encode("utf-32"),
    "Latin-1": b'{"name": "caf\xe9", "price": 1}',
    "half a character": b'{"name": "\xc3", "price": 1}',
    "more bytes than needed": b'{"name": "\xc0\xaf", "price": 1}',
    "a surrogate in UTF-8": b'{"name": "\xed\xa0\x80", "price": 1}',
    "beyond the last character": b'{"name": "\xf4\x90\x80\x80", "price": 1}',
    "the first half of a pair": rb'{"name": "\ud83d", "price": 1}',
    "the second half of a pair": rb'{"name": "\udca1", "price": 1}',
    "a pair in the wrong order": rb'{"name": "\udca1\ud83d", "price": 1}',
    "the first half twice": rb'{"name": "\ud83d\ud83d", "price": 1}',
    "half a pair in a field's name": rb'{"\ud83d": "lamp", "price": 1}',
    "a raw end of line": b'{"name": "la\nmp", "price": 1}',
    "a raw control character": b'{"name": "la\x1fmp", "price": 1}',
    "a raw NUL": b'{"name": "la\x00mp", "price": 1}',
    "an unknown escape": rb'{"name": "\x41", "price": 1}',
    "an unfinished escape": rb'{"name": "\u12", "price": 1}',
    "a form": b"name=lamp&price=1",
    "XML": b"<item><name>lamp</name></item>",
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
}
# With the pointers to expect.
UNFIT_JSON = {
    "a price of 1e400": (b'{"name": "lamp", "price": 1e400}', ["/price"]),
    "a price of -1e400": (b'{"name": "lamp", "price": -1e400}', ["/price"]),
    "a price just above all doubles": (b'{"name": "lamp", "price": 1.7976931348623159e308}', ["/price"]),
    "a price of 5,000 digits": (b'{"name": "lamp", "price": %b}' % DIGITS, ["/price"]),
    "a price of -5,000 digits": (b'{"name": "lamp", "price": -%b}' % DIGITS, ["/price"]),
    "a price with an exponent of 5,000 digits": (b'{"name": "lamp", "price": 1e%b}' % DIGITS, ["/price"]),
    "a name of 5,000 digits": (b'{"name": %b, "price": 1}' % DIGITS, ["/name"]),
    "an in_stock of 5,000 digits": (b'{"name": "lamp", "price": 1, "in_stock": %b}' % DIGITS, ["/in_stock"]),
    "an unknown field of 5,000 digits": (b'{"name": "lamp", "price": 1, "colour": %b}' % DIGITS, ["/colour"]),
    "an escaped NUL": (rb'{"name": "la\u0000mp", "price": 1}', ["/name"]),
    "an escape in a field's name": (rb'{"n\u0061me": 1, "price": 1}', ["/name"]),
}
UNFIT_MSGPACK = {
    "a price that is no number": (b"\x82\xa4name\xa1x\xa5price\xcb" + struct.pack(">d", float("nan")), ["/price"]),
    "a price of infinity": (b"\x82\xa4name\xa1x\xa5price\xcb" + struct.pack(">d", float("inf")), ["/price"]),
    "a price of minus infinity": (b"\x82\xa4name\xa1x\xa5price\xcb" + struct.pack(">d", float("-inf")), ["/price"]),
    "a single that is no number": (b"\x82\xa4name\xa1x\xa5price\xca\x7f\xc0\x00\x00", ["/price"]),
    "a single of infinity": (b"\x82\xa4name\xa1x\xa5price\xca\x7f\x80\x00\x00", ["/price"]),
    "a name in bytes": (b"\x82\xa4name\xc4\x01x\xa5price\x01", ["/name"]),
    "a name with NUL": (b"\x82\xa4name\xa1\x00\xa5price\x01", ["/name"]),
    "a name that is a timestamp": (b"\x82\xa4name\xd6\xff\x00\x00\x00\x00\xa5price\x01", ["/name"]),
    "a price that is an extension": (b"\x82\xa4name\xa1x\xa5price\xd4\x05\x00", ["/price"]),
    "an extension": (b"\xd4\x05\x00", [""]),
    "a timestamp": (b"\xd6\xff\x00\x00\x00\x00", [""]),
    "a timestamp out of all bounds": (b"\xc7\x0c\xff" + b"\xff" * 12, [""]),
    "a list that announces 2**32 members": (b"\xdd\xff\xff\xff\xff", [""]),
    "a number as a field": (b"\x83\xa4name\xa1x\xa5price\x01\x07\x01", ["/7"]),
    "nil as a field": (b"\x83\xa4name\xa1x\xa5price\x01\xc0\x01", ["/null"]),
    "a list as a field": (b"\x83\xa4name\xa1x\xa5price\x01\x91\x01\x01", ["/[1]"]),
    "an object as a field": (b"\x83\xa4name\xa1x\xa5price\x01\x81\x01\x01\x01", [""]),
    "an object as a field in a list": (b"\x91\x83\xa4name\xa1x\xa5price\x01\x81\x01\x01\x01", ["/0"]),
}
MALFORMED_MSGPACK = {
    "nothing": b"",
    "the byte that has no meaning": b"\xc1",
    "that byte inside": b"\x82\xa4name\xc1\xa5price\x01",
    "no end": b"\x82\xa4name\xa4lamp\xa5price",
    "a string cut short": b"\x82\xa4name\xa4la",
    "a string that announces 2**32 bytes": b"\x82\xa4name\xdb\xff\xff\xff\xfflamp",
    "an object that announces 2**32 fields": b"\xdf\xff\xff\xff\xff\xa4name\xa1x",
    "a list that announces what is not there": b"\x92\x82\xa4name\xa1x\xa5price\x01",
    "garbage behind": b"\x82\xa4name\xa1x\xa5price\x01\x00",
    "a second body behind": b"\x82\xa4name\xa1x\xa5price\x01" * 2,
    "a string that is no UTF-8": b"\x82\xa4name\xa1\xff\xa5price\x01",
    "a surrogate in UTF-8": b"\x82\xa4name\xa3\xed\xa0\x80\xa5price\x01",
}


def nested(opening: bytes, closing: bytes, inner: bytes) -> list[bytes]:
    """Return the same depth with its end and without."""
    return [opening * DEPTH + inner + closing * DEPTH, opening * DEPTH]


DEEP: dict[str, dict[bytes, list[str]]] = {
    JSON: {
        prefix + body + suffix: expected
        for body in [*nested(b"[", b"]", b"1"), *nested(b'{"a":', b"}", b"1"), *nested(b'[{"a":', b"}]", b"1")]
        for prefix, suffix, expected in (
            (b'{"price": 1, "name": ', b"}", ["/name"]),
            (b'{"name": "lamp", "price": ', b"}", ["/price"]),
            (b'{"name": "lamp", "price": 1, "colour": ', b"}", ["/colour"]),
            (b'[{"name": "lamp", "price": 1}, {"m/n": ', b"}]", ["/1/m~1n"]),
        )
    },
    MSGPACK: {
        prefix + body: expected
        for body in [*nested(b"\x91", b"", b"\x01"), *nested(b"\x81\xa1a", b"", b"\x01")]
        for prefix, expected in (
            (b"\x82\xa5price\x01\xa4name", ["/name"]),
            (b"\x82\xa4name\xa1x\xa5price", ["/price"]),
            (b"\x83\xa4name\xa1x\xa5price\x01\xa6colour", ["/colour"]),
        )
    },
}


@pytest.mark.parametrize(
    ("form", "bodies"), [(JSON, MALFORMED_JSON), (MSGPACK, MALFORMED_MSGPACK)], ids=[JSON, MSGPACK]
)
async def test_what_cannot_be_decoded_is_refused(
    client: httpx.AsyncClient, form: str, bodies: dict[str, bytes]
) -> None:
    items = await create_batch(client, [{"name": "lamp", "price": 1}])
    for what, body in bodies.items():
        response = await client.post("/items", content=body, headers={"content-type": form})
        assert code(response) == (400, "malformed-body"), what
        assert pointers(response) == [], what
    assert await everything(client) == items


async def test_what_breaks_off_is_refused_by_every_write(client: httpx.AsyncClient) -> None:
    items = await create_batch(client, [{"name": "lamp", "price": 1}])
    calls = {"PUT": b'{"name": "desk", "price": 2', "PATCH": b'{"price": 2'}
    for method, body in calls.items():
        response = await client.request(method, "/items/1", content=body, headers={"content-type": JSON})
        assert code(response) == (400, "malformed-body")
    response = await client.patch("/items", content=b'[{"id": 1, "price": 2}', headers={"content-type": JSON})
    assert code(response) == (400, "malformed-body")
    assert await everything(client) == items


@pytest.mark.parametrize(("form", "bodies"), [(JSON, UNFIT_JSON), (MSGPACK, UNFIT_MSGPACK)], ids=[JSON, MSGPACK])
async def test_what_only_one_form_can_express_is_pointed_to(
    client: httpx.AsyncClient, form: str, bodies: dict[str, tuple[bytes, list[str]]]
) -> None:
    for what, (body, expected) in bodies.items():
        response = await client.post("/items", content=body, headers={"content-type": form})
        assert code(response) == (422, "invalid-body"), what
        assert pointers(response) == expected, what
    assert await everything(client) == []


@pytest.mark.parametrize("form", DEEP)
async def test_nesting_without_end_is_refused(client: httpx.AsyncClient, form: str) -> None:
    for body, expected in DEEP[form].items():
        response = await client.post("/items", content=body, headers={"content-type": form})
        assert code(response) == (422, "invalid-body"), body[:50]
        assert pointers(response) == expected, body[:50]
    assert await everything(client) == []


async def test_a_list_without_end_is_refused(client: httpx.AsyncClient) -> None:
    for form, body in ((JSON, b"[" * DEPTH), (MSGPACK, b"\x91" * DEPTH)):
        response = await client.post("/items", content=body, headers={"content-type": form})
        assert code(response) == (422, "invalid-body")
        assert pointers(response) == ["/0"]


async def test_without_a_body_nothing_is_done(client: httpx.AsyncClient) -> None:
    items = await create_batch(client, [{"name": "lamp", "price": 1}])
    for method, url in (("POST", "/items"), ("PATCH", "/items"), ("PUT", "/items/1"), ("PATCH", "/items/1")):
        assert code(await client.request(method, url)) == (415, "unsupported-media-type")
        for form in (JSON, MSGPACK):
            response = await client.request(method, url, headers={"content-type": form})
            assert code(response) == (400, "malformed-body")
    assert await everything(client) == items


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_body_that_is_no_text_is_told_in_plain_words(client: httpx.AsyncClient) -> None:
    details = {b"": "It is empty.", b" \r\n\t": "It is empty.", b'{"name": "\xff"}': "It is not UTF-8."}
    for body, detail in details.items():
        response = await client.post("/items", content=body, headers={"content-type": JSON})
        assert (code(response), response.json()["detail"]) == ((400, "malformed-body"), detail)
    response = await client.post("/items", content=body)
    assert code(response) == (415, "unsupported-media-type")
    assert response.json()["detail"] == f"Content-Type must be one of {JSON}, {MSGPACK}, but there is none."


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_name_of_a_field_that_is_no_string_is_pointed_to_in_plain_words(client: httpx.AsyncClient) -> None:
    names: dict[str, Any] = {
        "price": b"price",
        "1": 1,
        "null": None,
        "1.5": 1.5,
        "true": True,
        '["a",1]': ("a", 1),
        "a~1b~0": b"a/b~",
    }
    for text, name in names.items():
        for body, place in (({"name": "x", name: 1}, ""), ([LAMP, {**LAMP, name: 1}], "/1")):
            sent = msgspec.msgpack.encode(body)
            response = await client.post("/items", content=sent, headers={"content-type": MSGPACK})
            assert code(response) == (422, "invalid-body")
            [error] = [error for error in response.json()["errors"] if error["detail"] != "Missing"]
            assert error == {"pointer": f"{place}/{text}", "detail": "Expected a string as the name of a field"}
    key_with_extension = b"\x82\xa4name\xa1x\x92\x01\xd5\x05ab\x01"
    response = await client.post("/items", content=key_with_extension, headers={"content-type": MSGPACK})
    assert code(response) in {(400, "malformed-body"), (422, "invalid-body")}
