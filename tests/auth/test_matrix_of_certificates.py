"""Every operation for callers with client certificates, of a service with two workers, on both databases."""

import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.auth.test_matrix import ADMITTED, BY_PASSWORD, CASES, seen, status
from tests.server.test_tls import TLSService
from tests.support.certificates import Authority
from tests.support.issued import change_user, issue, store_user
from tests.support.people import ROLES, People
from tests.support.tokens import bearer

pytestmark = pytest.mark.anyio

AS = "x-as"
NOBODY, UNKNOWN, OTHER_CA, ITS_OWN = "nobody", "unknown", "of another CA", "of its own"


class Connections(httpx.AsyncBaseTransport):
    """Sends each request over a connection with the certificate that its header names, which is left out."""

    def __init__(self, contexts: Mapping[str, ssl.SSLContext]) -> None:
        self._transports = {name: httpx.AsyncHTTPTransport(verify=context) for name, context in contexts.items()}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        return await self._transports[request.headers.pop(AS)].handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections."""
        for transport in self._transports.values():
            await transport.aclose()


@pytest.fixture
async def people(database_url: str, tmp_path: Path) -> AsyncIterator[People]:
    """Return users with certificates, an admin with a token beside, and a client of a service that knows them."""
    (tmp_path / "others").mkdir()
    authority, others = Authority(tmp_path), Authority(tmp_path / "others")
    ids = {name: await store_user(database_url, name, role) for name, role in ROLES.items()}
    await change_user(database_url, ids["inactive"], is_active=False)
    contexts = {name: authority.trusting(authority.client(name, name)) for name in [*ROLES, UNKNOWN]}
    contexts[NOBODY] = authority.trusting()
    contexts[OTHER_CA] = authority.trusting(others.client("other", "admin"))
    contexts[ITS_OWN] = authority.trusting(authority.client("own", "admin", is_self_signed=True))
    server = authority.server()
    settings = {
        "ITEMSVC_AUTH": "mtls,tokens",
        "ITEMSVC_TLS_CERT": str(server.cert),
        "ITEMSVC_TLS_KEY": str(server.key),
        "ITEMSVC_TLS_CLIENT_CA": str(authority.path),
    }
    headers = {name: {AS: name} for name in contexts}
    headers["malformed"] = {AS: "admin", **bearer("lamp")}  # a header counts before a certificate
    headers["demoted"] = {AS: "admin", **bearer(await issue(database_url, ids["reader"]))}
    with TLSService(database_url, authority, settings, workers=2) as service:
        async with httpx.AsyncClient(transport=Connections(contexts), base_url=service.url, timeout=60) as client:
            yield People(database_url, ids, headers, client)


async def test_every_operation_has_its_status_for_every_certificate(people: People) -> None:
    for (method, path), case in CASES.items():
        expected = dict.fromkeys((NOBODY, UNKNOWN, "inactive", "malformed"), 401)
        expected |= dict(zip(ADMITTED, case.statuses, strict=True))
        expected["demoted"] = 401 if (method, path) == BY_PASSWORD else case.statuses[0]
        found = {name: await status(people, name, method, case) for name in expected}
        assert found == expected, (method, path)


async def test_no_operation_is_reached_with_a_certificate_of_another_ca(people: People) -> None:
    before = await seen(people, "/users/1", "/users?count=true&limit=1")
    for method, path in CASES:
        for name in (OTHER_CA, ITS_OWN):
            with pytest.raises((httpx.TransportError, ssl.SSLError)):  # httpx lets some of the latter through
                await people.send(name, method, path.replace("{id}", "1"), {"name": "lamp", "price": 1})
    assert await seen(people, "/users/1", "/users?count=true&limit=1") == before
