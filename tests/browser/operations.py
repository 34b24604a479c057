"""The page /docs as a person uses it: an operation is opened, filled in, sent, and its response read."""

from typing import Self

from playwright.async_api import Locator, Page, Request


class DocsOperation:
    """One operation of the page."""

    def __init__(self, page: Page, tag: str, name: str) -> None:
        self._page = page
        self.block = page.locator(f"#operations-{tag}-{name}")
        self.responses = self.block.locator(".live-responses-table")

    async def open(self) -> Self:
        """Open it, ready to be filled in."""
        await self.block.locator(".opblock-summary-control").click()
        await self.block.get_by_role("button", name="Try it out").click()
        return self

    async def set_media_types(self, name: str) -> None:
        """Choose the media type of the response, and of the body if there is one."""
        body = self.block.get_by_label("Request content type")
        if await body.count():
            await body.select_option(name)
        await self.block.get_by_label("Media Type").first.select_option(name)

    async def set_body(self, text: str) -> None:
        """Type a body."""
        await self.block.locator("textarea.body-param__text").fill(text)

    async def set_parameter(self, name: str, text: str) -> None:
        """Type a parameter."""
        await self.block.locator(f'tr[data-param-name="{name}"] input').fill(text)

    async def send(self) -> tuple[Request, int, str]:
        """Send it, and return the request as it was sent, and the status and the body as they are shown."""
        async with self._page.expect_event("requestfinished", lambda one: "/docs" not in one.url) as finished:
            await self.block.get_by_role("button", name="Execute").click()
        request = await finished.value
        response = await request.response()
        assert response is not None
        shown = self.responses.locator("tr.response")
        await shown.get_by_text(f"x-request-id: {response.headers['x-request-id']}").wait_for()
        status = await shown.locator(".response-col_status").inner_text()
        return request, int(status.split()[0]), await body_of(shown)


async def body_of(shown: Locator) -> str:
    """Return the body that is shown."""
    return await shown.locator("h5:text-is('Response body') + div code").inner_text()
