"""The page /docs in a browser: it loads, sends real requests in both media types, and shows what comes back."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest
from playwright.async_api import Browser, Error

from tests.browser.operations import DocsOperation
from tests.support.browser import opened
from tests.support.responses import JSON, MSGPACK
from tests.support.serving import ServiceProcess

LARGE = 2**53 + 1  # the first integer that is no double
CODEC = "import('/docs/msgpack.js')"
ENCODE = f"all => {CODEC}.then(codec => all.map(text => codec.encode(codec.parse(text)).toHex()))"
DECODE = f"all => {CODEC}.then(codec => all.map(hex => codec.stringify(codec.decode(Uint8Array.fromHex(hex)))))"
INTEGERS = [0, 127, 128, 255, 256, 2**16 - 1, 2**16, 2**31, 2**32, LARGE, 2**63 - 1, 2**63, 2**64 - 1]
LENGTHS = (0, 1, 15, 16, 31, 32, 255, 256, 2**16 - 1, 2**16)
VALUES: list[Any] = [
    *(None, True, False, 9.5, 0.1, -0.0, 1e300, 5e-324, "lämp", "\U0001f4a1"),
    *(sign * number for number in INTEGERS for sign in (1, -1) if sign * number >= -(2**63)),
    *("x" * count for count in LENGTHS),
    *([1] * count for count in LENGTHS),
    *({str(number): None for number in range(count)} for count in (0, 15, 16, 2**16)),
    {"__proto__": {"a": [1.5, {"b": None}]}},
]
# With 4, 8 and 12 bytes.
TIMESTAMPS = [
    datetime(2026, 1, 31, 12, tzinfo=UTC),
    datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC),
    datetime(2400, 1, 1, 0, 0, 0, 5, tzinfo=UTC),  # whose seconds have 34 bits
    datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 1, tzinfo=UTC),
    datetime(1, 1, 1, tzinfo=UTC),
]
# Forms that are longer than they have to be, as another encoder may write them.
WIDTHS = [
    *(b"\xd0\x80", b"\xd1\xff\xfe", b"\xd2\xff\xff\xff\xfe", b"\xd3" + b"\xff" * 8),
    *(b"\xcc\x01", b"\xcd\x00\x01", b"\xce" + bytes(4), b"\xcf" + b"\xff" * 8, b"\xca\x3f\xc0\x00\x00"),
    *(b"\xd9\x01a", b"\xda\x00\x01a", b"\xdb\x00\x00\x00\x01a", b"\xdc\x00\x01\xc0", b"\xdd\x00\x00\x00\x01\xc0"),
    *(b"\xde\x00\x01\xa1a\xc0", b"\xdf\x00\x00\x00\x01\xa1a\xc0"),
]
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def test_it_loads_without_an_error_and_from_this_service_alone(
    browser: Browser, open_service: ServiceProcess
) -> None:
    urls: list[str] = []
    async with opened(browser, "about:blank") as (page, errors):
        page.on("request", lambda request: urls.append(request.url))
        await page.goto(f"{open_service.url}/docs")
        await page.get_by_role("heading", name="Item service").wait_for()
        sections = page.locator(".opblock-tag")
        await sections.first.wait_for()
        names = await sections.evaluate_all("all => all.map(one => one.dataset.tag)")
        assert {"items", "users", "tokens"} <= set(names)
        assert not await page.locator(".opblock-head").first.is_visible()
        assert errors == []
    assert f"{open_service.url}/openapi.json" in urls
    assert [url for url in urls if not url.startswith((open_service.url, "data:"))] == []


@pytest.mark.parametrize("media_type", [JSON, MSGPACK])
async def test_an_item_that_is_created_is_read_back(
    browser: Browser, open_service: ServiceProcess, media_type: str
) -> None:
    async with opened(browser, f"{open_service.url}/docs") as (page, errors):
        create = await DocsOperation(page, "items", "create_items").open()
        await create.set_media_types(media_type)
        await create.set_body('{"name": "lämp", "price": 9.5, "in_stock": false, "owner_id": null}')
        request, status, body = await create.send()
        created = json.loads(body)
        assert (status, created["name"], created["price"], created["in_stock"]) == (201, "lämp", 9.5, False)
        assert TIMESTAMP.fullmatch(created["created_at"])
        assert request.headers["content-type"] == request.headers["accept"] == media_type
        reading = await DocsOperation(page, "items", "read_item").open()
        await reading.set_media_types(media_type)
        await reading.set_parameter("id", str(created["id"]))
        request, status, body = await reading.send()
        assert (status, json.loads(body)) == (200, created)
        response = await request.response()
        assert response is not None
        assert response.headers["content-type"] == media_type
        assert errors == []
    async with httpx.AsyncClient(base_url=open_service.url) as client:
        assert (await client.get(f"/items/{created['id']}")).json() == created


@pytest.mark.parametrize("media_type", [JSON, MSGPACK])
async def test_a_problem_is_shown(browser: Browser, open_service: ServiceProcess, media_type: str) -> None:
    async with opened(browser, f"{open_service.url}/docs") as (page, errors):
        create = await DocsOperation(page, "items", "create_items").open()
        await create.set_media_types(media_type)
        await create.set_body('{"name": "lamp", "price": -1}')
        _, status, body = await create.send()
        problem = json.loads(body)
        assert (status, problem["code"]) == (422, "invalid-body")
        assert [error["pointer"] for error in problem["errors"]] == ["/price"]
        assert all("422" in error for error in errors)  # Chromium itself notes each response that is an error


@pytest.mark.parametrize("media_type", [JSON, MSGPACK])
async def test_no_integer_is_rounded(browser: Browser, open_service: ServiceProcess, media_type: str) -> None:
    async with opened(browser, f"{open_service.url}/docs") as (page, _):
        create = await DocsOperation(page, "items", "create_items").open()
        await create.set_media_types(media_type)
        body_text = f'{{"name": "lamp", "price": 1, "owner_id": {LARGE}}}'
        await create.set_body(body_text)
        request, status, body = await create.send()
        assert (status, json.loads(body)["code"]) == (422, "unknown-reference")
        if media_type == JSON:  # of a file, the browser does not tell
            assert request.post_data == body_text
        reading = await DocsOperation(page, "items", "read_item").open()
        await reading.set_parameter("id", str(LARGE))
        request, status, body = await reading.send()
        assert (status, request.url) == (404, f"{open_service.url}/items/{LARGE}")
        assert str(LARGE) in json.loads(body)["detail"]


async def test_its_messagepack_is_that_of_the_service(browser: Browser, open_service: ServiceProcess) -> None:
    async with opened(browser, f"{open_service.url}/livez") as (page, _):

        async def decoded(*sent: bytes) -> list[Any]:
            return list(map(json.loads, await page.evaluate(DECODE, list(map(bytes.hex, sent)))))

        encoded = await page.evaluate(ENCODE, [json.dumps(value, ensure_ascii=False) for value in VALUES])
        assert [msgspec.msgpack.decode(bytes.fromhex(each)) for each in encoded] == VALUES
        assert await decoded(*map(msgspec.msgpack.encode, VALUES)) == VALUES
        assert await decoded(*WIDTHS) == list(map(msgspec.msgpack.decode, WIDTHS))
        assert await decoded(*map(msgspec.msgpack.encode, TIMESTAMPS)) == [
            time.isoformat(timespec="microseconds").replace("+00:00", "Z") for time in TIMESTAMPS
        ]
        for wrong in (b"", b"\x92\x01", b"\xa5ab", b"\xc1", b"\xc7\x00\x05", b"\xa1\xff"):
            with pytest.raises(Error):
                await decoded(wrong)
        for wrong_text in (f"{2**64}", f"{-(2**63) - 1}"):
            with pytest.raises(Error, match="64 bits"):
                await page.evaluate(ENCODE, [wrong_text])


async def test_a_large_integer_in_a_response_is_shown_as_it_was_sent(
    browser: Browser, open_service: ServiceProcess
) -> None:
    text = f'{{"id": {LARGE}, "price": 1e400, "total": 2.50}}'
    async with opened(browser, f"{open_service.url}/docs") as (page, errors):
        headers = {"content-type": "application/json", "x-request-id": "large"}
        await page.route("**/items/1", lambda route: route.fulfill(status=200, headers=headers, body=text))
        reading = await DocsOperation(page, "items", "read_item").open()
        await reading.set_parameter("id", "1")
        _, _, body = await reading.send()
        assert f'"id": {LARGE},' in body
        assert errors == []


async def test_with_authentication_a_token_that_is_entered_is_sent(
    browser: Browser, closed_service: tuple[ServiceProcess, str]
) -> None:
    service, token = closed_service
    async with opened(browser, f"{service.url}/docs") as (page, errors):
        listing = await DocsOperation(page, "items", "list_items").open()
        _, status, body = await listing.send()
        assert (status, json.loads(body)["code"]) == (401, "unauthenticated")
        await page.get_by_role("button", name="Authorize").first.click()
        entry = page.locator(".auth-container").filter(has_text="bearer (http, Bearer)")
        await entry.locator("input").fill(token)
        await entry.get_by_role("button", name="Apply credentials").click()
        await page.locator(".modal-ux").get_by_role("button", name="Close").last.click()
        request, status, body = await listing.send()
        assert (status, json.loads(body)) == (200, [])
        assert request.headers["authorization"] == f"Bearer {token}"
        assert all("401" in error for error in errors)
        assert await page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
