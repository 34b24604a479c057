"""One browser for all tests, and services whose page it opens."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.support.browser import CHROMIUM, chromium
from tests.support.issued import issue, store_user
from tests.support.serving import ServiceProcess

MISSING = "Chromium is not installed; on Debian, apt-get install chromium"


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Return a browser; where .ci/run has run there is one."""
    if CHROMIUM is None and "CI" not in os.environ:
        pytest.skip(MISSING)
    assert CHROMIUM is not None, MISSING
    async with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def open_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Return a service that asks nobody who calls."""
    path = tmp_path_factory.mktemp("open") / "items.db"
    with ServiceProcess(f"sqlite+aiosqlite:///{path}", ITEMSVC_DOCS="on") as service:
        yield service


@pytest.fixture
def closed_service(tmp_path: Path) -> Iterator[tuple[ServiceProcess, str]]:
    """Return a service whose callers have tokens, and the token of a writer."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'items.db'}"
    with ServiceProcess(url, ITEMSVC_DOCS="on", ITEMSVC_AUTH="tokens") as service:

        async def token() -> str:
            return await issue(url, await store_user(url, "ada", "writer"))

        yield service, asyncio.run(token())
