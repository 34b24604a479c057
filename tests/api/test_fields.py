"""What goes into a field comes out of it."""

import struct
from hashlib import sha256

import httpx
import pytest

from tests.support.responses import create_batch, everything, read

PRICES = (
    *(0, 1, 9.5, 0.1, 0.1 + 0.2, 1 / 3, 2.675, 1e15 + 0.5, 4503599627370497.5),
    *(9007199254740991, 9007199254740993.0, 1e16, 1e16 + 2, 2**53 + 2, 2**63, 2**64, 1e22, 1e23, 123456789012345680000),
    *(5e-324, 2.2250738585072011e-308, 2.2250738585072014e-308, 1e-7, 1.7976931348623155e308, 1.7976931348623157e308),
)
NAMES = {
    "one character": "x",
    "as long as may be": "x" * 255,
    "255 characters outside the first plane": "\U0001f4a1" * 255,
    "the last character": "\U0010ffff",
    "on both sides of the surrogates": "\ud7ff\ue000",
    "composed": "\u00e9",
    "combining": "e\u0301",
    "many combining": "e" + "\u0301" * 254,
    "right to left": "\u05de\u05e0\u05d5\u05e8\u05d4 \u0645\u0635\u0628\u0627\u062d",
    "bidirectional marks": "\u202eabc\u202c",
    "joined emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "blank": " ",
    "blanks around": "  lamp\t\n",
    "control characters": "\x01\x1b\x7f\x85",
    "ends of line": "a\nb\r\nc\u2028d\u2029e",
    "a mark of byte order": "\ufefflamp\ufffe\uffff",
    "quotes and backslashes": '"\'`\\\\"\\u0000',
    "SQL": "lamp'); DROP TABLE items; --",
    "wildcards and parameters": "100% _ $1 :name ? %s {}",
    "JSON": '[null, {"a": 1}]',
    "a number": "1e3",
    "null": "null",
}


def doubles(count: int) -> list[float]:
    """Return prices out of the whole range, each with all of its digits."""
    bits = [int.from_bytes(sha256(b"%d" % number).digest()[:8]) for number in range(count)]
    return [struct.unpack("<d", struct.pack("<Q", pattern % 0x7FF0000000000000))[0] for pattern in bits]


async def test_every_price_stays_what_it_is_however_it_is_written_and_read(client: httpx.AsyncClient) -> None:
    for price in PRICES:
        created = await client.post("/items", json={"name": "lamp", "price": price})
        url = created.headers["location"]
        replaced = await client.put(url, json={"name": "lamp", "price": price})
        patched = await client.patch(url, json={"price": price})
        in_a_batch = await client.patch("/items", json=[{"id": created.json()["id"], "price": price}])
        found = await client.get(url)
        items = [*(one.json() for one in (created, replaced, patched, found)), *in_a_batch.json()]
        assert [item["price"] for item in items] == [float(price)] * 5
        assert {type(item["price"]) for item in items} == {float}
    assert [item["price"] for item in await everything(client)] == [float(price) for price in PRICES]


async def test_a_thousand_prices_with_all_their_digits_come_back_as_they_were(client: httpx.AsyncClient) -> None:
    prices = doubles(1000)
    items = await create_batch(client, [{"name": "lamp", "price": price} for price in prices])
    assert [item["price"] for item in items] == prices
    assert await everything(client) == items


async def test_a_price_below_all_doubles_is_zero(client: httpx.AsyncClient) -> None:
    body = b'{"name": "lamp", "price": -1e-400}'
    response = await client.post("/items", content=body, headers={"content-type": "application/json"})
    assert response.json()["price"] == 0
    assert (await client.get(response.headers["location"])).content == response.content  # SQLite stores no -0.0


async def test_every_name_stays_what_it_is_however_it_is_written_and_read(client: httpx.AsyncClient) -> None:
    for what, name in NAMES.items():
        created = await client.post("/items", json={"name": name, "price": 1})
        assert created.json()["name"] == name, what
        found = await client.get(created.headers["location"])
        assert found.content == created.content, what
    assert [item["name"] for item in await everything(client)] == list(NAMES.values())


async def test_names_stay_what_they_are_in_batches_and_patches(client: httpx.AsyncClient) -> None:
    items = await create_batch(client, [{"name": name, "price": 1} for name in NAMES.values()])
    assert [item["name"] for item in items] == list(NAMES.values())
    turned = [{"id": item["id"], "name": name} for item, name in zip(items, reversed(NAMES.values()), strict=True)]
    response = await client.patch("/items", json=turned)
    assert [item["name"] for item in response.json()] == list(reversed(NAMES.values()))
    for item, name in zip(items, NAMES.values(), strict=True):
        await client.patch(f"/items/{item['id']}", json={"name": name})
        assert (await read(client, item["id"]))["name"] == name


async def test_a_name_may_be_written_with_escapes(client: httpx.AsyncClient) -> None:
    body = rb'{"name": "\u006c\u0061mp \ud83d\udca1 \/", "price": 1}'
    response = await client.post("/items", content=body, headers={"content-type": "application/json"})
    assert response.json()["name"] == "lamp \U0001f4a1 /"


@pytest.mark.parametrize("in_stock", [True, False])
async def test_in_stock_stays_what_it_is_however_it_is_written_and_read(
    client: httpx.AsyncClient, in_stock: bool
) -> None:
    [item] = await create_batch(client, [{"name": "lamp", "price": 1, "in_stock": in_stock}])
    url = f"/items/{item['id']}"
    turned = await client.patch(url, json={"in_stock": not in_stock})
    turned_back = await client.put(url, json={"name": "lamp", "price": 1, "in_stock": in_stock})
    assert (item["in_stock"], turned.json()["in_stock"]) == (in_stock, not in_stock)
    assert turned_back.json()["in_stock"] is (await read(client, item["id"]))["in_stock"] is in_stock
