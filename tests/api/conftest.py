"""Clients of resources: a test that asks for `resource` is run for each of them."""

from itertools import count

import httpx
import pytest

from tests.support.documented import check_response
from tests.support.resources import COLLECTIONS, Collection, ResourceClient


@pytest.fixture(params=COLLECTIONS, ids=str)
def collection(request: pytest.FixtureRequest) -> Collection:
    """Return each resource of ROUTES that has rows."""
    found: Collection = request.param
    return found


@pytest.fixture
async def resource(collection: Collection, client: httpx.AsyncClient) -> ResourceClient:
    """Return a client of each resource."""
    return await ResourceClient(collection, client, count(1)).prepared()


@pytest.fixture(params=[one for one in COLLECTIONS if one.has_every_verb], ids=str)
async def full_resource(request: pytest.FixtureRequest, client: httpx.AsyncClient) -> ResourceClient:
    """Return a client of each resource that has every verb, for one row and for many."""
    return await ResourceClient(request.param, client, count(1)).prepared()


@pytest.fixture
async def documented(client: httpx.AsyncClient) -> None:
    """Compare every response with the OpenAPI document."""
    client.event_hooks = {"request": [], "response": [check_response]}
