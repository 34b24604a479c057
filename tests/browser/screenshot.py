"""Writes the picture of the page /docs that the README has: `make screenshots`."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.async_api import Page

from tests.browser.operations import DocsOperation
from tests.support.browser import chromium, opened
from tests.support.responses import MSGPACK
from tests.support.serving import ServiceProcess

IMAGE = Path(__file__).parent.parent.parent / "docs" / "images" / "docs-page.png"
VIEWPORT = {"width": 900, "height": 900}
BODY = '{\n  "name": "lamp",\n  "price": 9.5,\n  "owner_id": null\n}'
MARGIN = 12


async def picture(page: Page) -> None:
    """Create an item in MessagePack, and write what is shown of it: the body that is typed, and the response."""
    create = await DocsOperation(page, "items", "create_items").open()
    await create.set_media_types(MSGPACK)
    await create.set_body(BODY)
    _, status, _ = await create.send()
    assert status == 201
    first = await create.block.locator(".opblock-section-request-body").bounding_box()
    last = await create.responses.locator(".headerline").last.bounding_box()
    whole = await create.block.bounding_box()
    assert first is not None
    assert last is not None
    assert whole is not None
    top, height = first["y"], last["y"] + last["height"] - first["y"] + MARGIN
    left, width = whole["x"] - MARGIN, whole["width"] + 2 * MARGIN
    scrolled = await page.evaluate("window.scrollY")
    clip = {"x": left, "y": top + scrolled, "width": width, "height": height}
    await page.screenshot(path=IMAGE, full_page=True, clip=clip)  # type: ignore[arg-type] # a FloatRect


async def write() -> None:
    """Run a service and a browser, and write the picture."""
    with (
        TemporaryDirectory() as folder,
        ServiceProcess(f"sqlite+aiosqlite:///{folder}/items.db", ITEMSVC_DOCS="on") as service,
    ):
        async with chromium() as browser, opened(browser, f"{service.url}/docs", viewport=VIEWPORT) as (page, _):
            await picture(page)


if __name__ == "__main__":
    IMAGE.parent.mkdir(parents=True, exist_ok=True)
    asyncio.run(write())
