"""Chromium without a window, driven by Playwright: what a page logs as errors, throws or may not load is noted."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Page, async_playwright

CHROMIUM = shutil.which("chromium")
LIMIT_MS = 60_000  # Swagger UI renders slowly where there is no processor to spare
VIEWPORT = {"width": 1200, "height": 900}


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run a browser, in a profile that is removed with it."""
    async with async_playwright() as playwright:
        is_root = os.geteuid() == 0  # whose processes Chromium's sandbox refuses
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=not is_root)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def opened(browser: Browser, url: str, **options: object) -> AsyncIterator[tuple[Page, list[str]]]:
    """Open a page, and give the errors that it had so far: what is on its console, exceptions, and failed requests."""
    context = await browser.new_context(**{"viewport": VIEWPORT, **options})  # type: ignore[arg-type]
    context.set_default_timeout(LIMIT_MS)
    page, errors = await context.new_page(), []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("requestfailed", lambda request: errors.append(f"{request.url}: {request.failure}"))
    try:
        await page.goto(url)
        yield page, errors
    finally:
        await context.close()
