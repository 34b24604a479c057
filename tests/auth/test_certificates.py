"""The way in with a client certificate: to which user its names lead, and for how long."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from math import inf
from time import time
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from starlette.types import Receive, Scope, Send

from service.app import create_app
from service.auth.certificates import names_of
from service.auth.identity import Certificate
from service.settings import Settings
from tests.support.issued import change_user, issue, store_user
from tests.support.responses import code
from tests.support.tokens import bearer

pytestmark = pytest.mark.anyio

ADA = Certificate(b"ada", ("ada",))


@asynccontextmanager
async def serving(
    settings: Settings, certificates: Sequence[Certificate | None], auth: Collection[str] = ("mtls", "tokens")
) -> AsyncIterator[httpx.AsyncClient]:
    """Run a service inside this process; its client has the first certificate of a list."""
    app = create_app(replace(settings, auth=frozenset(auth)))
    async with app.lifespan_context(app) as state:

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": state, "certificate": certificates[0]}, receive, send)

        transport = httpx.ASGITransport(serve, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="https://items.test") as client:
            yield client


async def test_where_no_token_is_accepted_none_is_issued(settings: Settings) -> None:
    id = await store_user(settings.database_url, "ada", "admin")
    async with serving(settings, [ADA], auth={"mtls"}) as client:
        for url in (f"/users/{id}/tokens", "/tokens"):
            assert code(await client.post(url, json={"name": "lamp"})) == (404, "no-such-path")
    async with serving(settings, [ADA]) as client:
        assert (await client.post(f"/users/{id}/tokens", json={"name": "lamp"})).status_code == 201


@pytest.mark.parametrize(
    ("names", "status"),
    [
        (("ada",), 200),
        (("ADA@Example.org",), 200),
        (("nobody", "ada", "ada@example.org"), 200),
        (("ada", "bob"), 401),  # whose names are those of two
        (("nobody",), 401),
        (("inactive",), 401),
        (("ada\0",), 401),
        ((), 401),
        ((*map(str, range(8)), "ada"), 401),
    ],
    ids=str,
)
async def test_a_certificate_is_that_of_the_one_user_whom_its_names_lead_to(
    settings: Settings, names: tuple[str, ...], status: int
) -> None:
    ids = [await store_user(settings.database_url, name, "reader") for name in ("ada", "bob", "inactive")]
    await change_user(settings.database_url, ids[2], is_active=False)
    async with serving(settings, [Certificate(b"one", names)]) as client:
        response = await client.get("/items")
    assert response.status_code == status
    if status == 401:
        assert response.headers["www-authenticate"] == 'Bearer realm="items"'
        assert response.json()["code"] == "unauthenticated"


async def test_certificates_are_told_apart_by_what_they_are_not_by_their_names(settings: Settings) -> None:
    ada = await store_user(settings.database_url, "ada", "writer")
    bob = await store_user(settings.database_url, "bob", "writer")
    connected: list[Certificate | None] = [ADA]
    async with serving(settings, connected) as client:
        for certificate, id in ((ADA, ada), (Certificate(b"bob", ("bob",)), bob), (ADA, ada)):
            connected[0] = certificate
            response = await client.post("/items", json={"name": "lamp", "price": 1})
            assert response.json()["owner_id"] == id
        connected[0] = None
        assert (await client.get("/items")).status_code == 401


async def test_a_certificate_counts_until_it_expires_also_on_an_open_connection(settings: Settings) -> None:
    await store_user(settings.database_url, "ada", "reader")
    connected: list[Certificate | None] = [ADA._replace(expires_at=time() + 3600)]
    async with serving(settings, connected) as client:
        assert (await client.get("/items")).status_code == 200
        connected[0] = Certificate(b"old", ("ada",), time() - 1)
        assert (await client.get("/items")).status_code == 401


async def test_a_header_counts_before_a_certificate_also_one_that_is_wrong(settings: Settings) -> None:
    await store_user(settings.database_url, "ada", "reader")
    token = bearer(await issue(settings.database_url, await store_user(settings.database_url, "root", "admin")))
    async with serving(settings, [ADA]) as client:
        assert (await client.get("/users")).status_code == 403
        assert (await client.get("/users", headers=token)).status_code == 200
        for header in ("Bearer lamp", "Basic YTpi", "Bearer", ""):
            assert (await client.get("/items", headers={"Authorization": header})).status_code == 401


SUBJECT = ((("organizationName", "Example"),), (("commonName", "ada"),))
ALTERNATIVE = (("email", "Ada@example.org"), ("DNS", "Batch.Example.org"), ("URI", "spiffe://x/ada"))


@pytest.mark.parametrize(
    ("fields", "kind", "names"),
    [
        ({"subject": SUBJECT, "subjectAltName": ALTERNATIVE}, "san", ["Ada@example.org", "batch.example.org"]),
        ({"subject": SUBJECT, "subjectAltName": ALTERNATIVE}, "email", ["Ada@example.org"]),
        ({"subject": SUBJECT, "subjectAltName": ALTERNATIVE}, "dns", ["batch.example.org"]),
        ({"subject": SUBJECT, "subjectAltName": ALTERNATIVE}, "cn", ["ada"]),
        ({"subject": SUBJECT, "subjectAltName": ALTERNATIVE[2:]}, "san", []),  # an address is no name of a user
        ({"subject": SUBJECT}, "san", ["ada"]),
        ({"subject": SUBJECT}, "dns", []),
        ({"subject": (*SUBJECT, *SUBJECT[1:])}, "cn", ["ada"]),
        ({}, "san", []),
    ],
)
def test_a_setting_says_which_names_of_a_certificate_count(fields: dict[str, Any], kind: str, names: list[str]) -> None:
    assert names_of(fields, kind) == names
    assert Certificate(b"", ()).expires_at == inf
