"""Users with tokens as tests need them: of every role, and of every kind that does not come in."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx
from msgspec.structs import replace

from service.auth.token_text import new_token
from service.settings import Settings
from tests.support.issued import change_user, issue, revoke, store_user
from tests.support.issuer import AUDIENCE, ISSUER, claims_of, issuing, signed, signing_key
from tests.support.responses import serving
from tests.support.tokens import bearer

LAMP = {"name": "lamp", "price": 1.0}
ROLES = {"reader": "reader", "owner": "writer", "writer": "writer", "admin": "admin", "inactive": "admin"}


class People(NamedTuple):
    """Users with tokens: a reader, two writers, the first of whom owns the item, an admin; and who does not come in."""

    database_url: str
    ids: dict[str, int]
    headers: dict[str, dict[str, str]]
    client: httpx.AsyncClient

    async def item(self, name: str, **fields: Any) -> int:
        """Create an item as somebody, and return its id."""
        response = await self.client.post("/items", json={**LAMP, **fields}, headers=self.headers[name])
        assert response.status_code == 201, response.content
        return int(response.json()["id"])

    @staticmethod
    def settings(settings: Settings) -> Settings:
        """Return the settings of a service that knows them."""
        return replace(settings, auth=frozenset({"tokens"}))

    async def token(self, name: str, **fields: Any) -> int:
        """Issue a token of somebody, and return its id."""
        url = f"/users/{self.ids[name]}/tokens"
        response = await self.client.post(url, json={"name": "test", **fields}, headers=self.headers["admin"])
        assert response.status_code == 201, response.content
        return int(response.json()["id"])

    async def send(self, name: str, method: str, url: str, body: Any = None) -> httpx.Response:
        """Send a request as somebody."""
        return await self.client.request(method, url, json=body, headers=self.headers[name])


@asynccontextmanager
async def serving_people(settings: Settings) -> AsyncIterator[People]:
    """Store users with tokens, and run a service inside this process that knows them."""
    url = settings.database_url
    ids = {name: await store_user(url, name, role) for name, role in ROLES.items()}
    headers = {name: bearer(await issue(url, id)) for name, id in ids.items()}
    await change_user(url, ids["inactive"], is_active=False)
    expired = await issue(url, ids["admin"], datetime.now(UTC) - timedelta(seconds=1))
    revoked = await issue(url, ids["admin"])
    await revoke(url, revoked)
    headers |= {"nobody": {}, "malformed": {"Authorization": "Bearer lamp"}, "basic": {"Authorization": "Basic YTpi"}}
    headers |= {"mistyped": bearer("itm_" + 33 * "0"), "expired": bearer(expired), "revoked": bearer(revoked)}
    headers |= {"unknown": bearer(new_token())}
    async with issuing() as issuer:
        jwt = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks": issuer.url}
        async with serving(replace(People.settings(settings), auth=frozenset({"tokens", "jwt"}), **jwt)) as client:
            yield People(url, ids, headers | {name: bearer(token) for name, token in jwts().items()}, client)


def jwts() -> dict[str, str]:
    """Return tokens of an issuer: valid ones, and of every kind that does not come in, which would be an admin's."""
    key, claims = signing_key(), claims_of("admin")
    public = json.dumps(key.public()).encode()
    return {
        **{f"jwt {name}": signed(claims_of(name)) for name in [*ROLES, "nobody"]},
        "jwt issuer": signed(claims | {"iss": f"{ISSUER}evil"}),
        "jwt audience": signed(claims | {"aud": f"{AUDIENCE}/other"}),
        "jwt none": signed(claims, key, {"alg": "none"}, b""),
        "jwt secret": signed(claims, key, {"alg": "HS256"}, public),
        "jwt algorithm": signed(claims, signing_key("one", "RS256")),
        "jwt key": signed(claims, signing_key("two")),
        "jwt signature": signed(claims, signing_key("one", "RS256"), {"alg": "ES256"}),
        "jwt expired": signed(claims | {"exp": claims["iat"] - 60}),
        "jwt early": signed(claims | {"nbf": claims["iat"] + 60}),
        "jwt endless": signed(claims | {"exp": None}),
    }
