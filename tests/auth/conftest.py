"""A service whose callers have tokens, which are kept in memory."""

from collections.abc import AsyncIterator

import httpx
import pytest

from service.settings import Settings
from tests.support.callers import Callers, opened
from tests.support.people import People, serving_people
from tests.support.tokens import MemoryTokens, bearer, serving_callers
from tests.support.users import create_user

ADA, BOB = "ada", "bob"


@pytest.fixture
async def tokens() -> MemoryTokens:
    """Return a store of tokens."""
    return MemoryTokens()


@pytest.fixture
async def service(settings: Settings, tokens: MemoryTokens) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client without a token."""
    async with serving_callers(settings, tokens) as client:
        yield client


@pytest.fixture
async def admin(service: httpx.AsyncClient, tokens: MemoryTokens) -> dict[str, str]:
    """Return the headers of an admin."""
    headers = bearer(tokens.issue(1_000_000, "admin"))
    service.headers.update(headers)
    for name in (ADA, BOB):  # the users 1 and 2
        await create_user(service, name)
    del service.headers["Authorization"]
    return headers


@pytest.fixture
async def callers() -> AsyncIterator[Callers]:
    """Return callers."""
    async with opened() as callers:
        yield callers


@pytest.fixture
async def people(settings: Settings) -> AsyncIterator[People]:
    """Return users with tokens, and a client of a service that knows them."""
    async with serving_people(settings) as people:
        yield people
