"""Calls with the tokens of a real issuer, oidc-provider on loopback: who comes in, and when its keys change, too."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from tests.support.issued import change_user, store_user
from tests.support.serving import ServiceProcess
from tests.support.waiting import wait_until

AUDIENCE = "https://items.example.org"
READ, WRITE = "items:read", "items:write"
STARTED = "Started worker-"
# Twice the service's cool-down for keys that are not known, and its life of what it has found.
ROTATION_S = 60.0


class Issuer:
    """An issuer that is running."""

    def __init__(self, url: str) -> None:
        self.url = url

    def token(self, client: str, scope: str = READ, audience: str = AUDIENCE) -> dict[str, str]:
        """Return the headers of a client of the issuer that has asked for a token."""
        form = {"grant_type": "client_credentials", "scope": scope, "resource": audience}
        response = httpx.post(f"{self.url}/token", data=form, auth=(client, client)).raise_for_status()
        return {"Authorization": f"Bearer {response.json()['access_token']}"}

    def change_keys(self, how: str) -> None:
        """Publish new keys beside the old ones (`rotate`), or the new ones alone (`withdraw`)."""
        httpx.post(f"{self.url}/{how}").raise_for_status()


@contextmanager
def issuing(node: str, script: str) -> Iterator[Issuer]:
    """Run an issuer until the block is left."""
    with subprocess.Popen([node, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield Issuer(process.stdout.readline().strip())
        finally:
            process.terminate()


def main(node: str, script: str) -> None:
    """Run the issuer and a service that trusts it, and make the calls. Raise AssertionError."""
    with TemporaryDirectory() as folder, issuing(node, script) as issuer:
        url = f"sqlite+aiosqlite:///{folder}/items.db"
        settings: dict[str, Any] = {
            "ITEMSVC_AUTH": "jwt",
            "ITEMSVC_JWT_ISSUER": issuer.url,
            "ITEMSVC_JWT_AUDIENCE": AUDIENCE,
            "ITEMSVC_JWT_JWKS": f"{issuer.url}/jwks",
            "ITEMSVC_JWT_SCOPE_CLAIM": "scope",
            "ITEMSVC_AUTH_CACHE_MS": "1000",
        }
        with ServiceProcess(url, **settings) as service, service.client() as client:
            for name in ("ada", "bob"):
                asyncio.run(store_user(url, name, "writer"))
            call(issuer, client)
            rotate(issuer, service, client)
            asyncio.run(change_user(url, 1, is_active=False))
            ada = issuer.token("ada")
            wait_until(lambda: status(client, ada) == 401)


def status(client: httpx.Client, headers: dict[str, str]) -> int:
    """Return the status of a read."""
    return client.get("/items", headers=headers).status_code


def call(issuer: Issuer, client: httpx.Client) -> None:
    """Come in with tokens that are signed by three algorithms, one of which names nobody."""
    assert {name: status(client, issuer.token(name)) for name in ("ada", "bob", "eve")} == {
        "ada": 200,
        "bob": 200,
        "eve": 401,
    }
    assert status(client, issuer.token("ada", audience="https://other.example.org")) == 401
    lamp = {"name": "lamp", "price": 1}
    assert client.post("/items", json=lamp, headers=issuer.token("ada")).status_code == 403
    made = client.post("/items", json=lamp, headers=issuer.token("ada", f"{READ} {WRITE}"))
    assert made.status_code == 201
    assert made.json()["owner_id"] == 1
    path = f"/items/{made.json()['id']}"
    assert client.patch(path, json={"price": 2}, headers=issuer.token("bob", WRITE)).status_code == 403
    forged = issuer.token("ada")
    forged["Authorization"] = forged["Authorization"][:-8] + 8 * "A"
    assert status(client, forged) == 401


def rotate(issuer: Issuer, service: ServiceProcess, client: httpx.Client) -> None:
    """Have the issuer change its keys: the service finds the new ones by itself, and at SIGHUP forgets the old ones."""
    old = issuer.token("ada")
    issuer.change_keys("rotate")
    new = issuer.token("bob")
    wait_until(lambda: status(client, new) == 200, ROTATION_S)
    assert status(client, old) == 200
    issuer.change_keys("withdraw")
    started = service.log.count(STARTED)
    service.send(signal.SIGHUP)
    wait_until(lambda: service.log.count(STARTED) > started)
    wait_until(lambda: status(client, old) == 401)
    assert status(client, new) == 200
    assert "the keys of the tokens' issuer cannot be read" not in service.log


if __name__ == "__main__":
    main(sys.argv[1], str(Path(sys.argv[2])))
