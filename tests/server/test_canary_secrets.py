"""Canary secrets: whatever is sent or stored, no secret comes out again, in a log, a response, a table or an error."""

import asyncio
from base64 import b64encode
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import make_url

from db.engines.connector import Credentials as DatabaseCredentials
from db.resources.tokens import TokenCaller, UserCaller
from service.auth.login import Credentials
from service.auth.token_text import digest_of, new_token
from service.resources.users import UserCreate
from service.settings import Settings
from tests.server.test_command_line import Run, run
from tests.support.issued import issue, store_user
from tests.support.responses import execute
from tests.support.roles import service_role
from tests.support.serving import ServiceProcess
from tests.support.tokens import bearer
from tests.support.users import new_user

__all__ = ["run"]

KEY = "canary-idempotency-key"
PASSWORDS = [f"canary-password-{n}" for n in range(6)]
JWT = "eyJhbGciOiJSUzI1NiJ9.canary-claims.canary-signature"
HASHES = ("$argon2", "argon2id$v=")


def basic(name: str, password: str) -> dict[str, str]:
    return {"authorization": f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}"}


class Canaries:
    """The secrets that were given to a service, what came out of it, and the text that may show each of them."""

    def __init__(self, database_url: str) -> None:
        password = make_url(database_url).password
        self.secrets = {KEY, *PASSWORDS, JWT, "canary-claims", *HASHES, *filter(None, [password])}
        self.secrets |= {quote(secret) for secret in self.secrets}
        self.out: list[str] = []

    def add_token(self, text: str) -> str:
        """Look for a token from now on, and for what is stored of it."""
        digest = digest_of(text)
        assert digest is not None
        self.secrets |= {text, text.removeprefix(digest.prefix), digest.digest}
        return text

    def add(self, output: str) -> None:
        """Look for secrets in an output, too."""
        self.out.append(output)

    def found(self) -> Iterator[tuple[str, str]]:
        """Return each secret that came out, with some of what is around it."""
        for output in self.out:
            for secret in self.secrets:
                if secret in output:
                    place = output.index(secret)
                    yield secret, output[max(0, place - 200) : place + 100]


class Caller:
    """A client whose responses are looked through."""

    def __init__(self, client: httpx.Client, canaries: Canaries) -> None:
        self.client, self.canaries = client, canaries

    def send(self, method: str, url: str, *statuses: int, **options: Any) -> httpx.Response:
        """Send a request, which is to have one of these statuses."""
        response = self.client.request(method, url, **options)
        assert response.status_code in statuses, (method, url, response.text)
        self.canaries.add(f"{response.headers} {response.text}")
        return response

    def new_token(self, url: str, **options: Any) -> str:
        """Return a token that is issued: the one response that shows it is not looked through."""
        response = self.client.post(url, **options)
        assert response.status_code == 201, response.text
        text: str = response.json()["token"]
        self.canaries.add(f"{response.headers} {response.text}".replace(text, ""))
        return self.canaries.add_token(text)


def ask(caller: Caller, admin: dict[str, str]) -> None:
    """Send every kind of secret, where it belongs and where it does not."""
    send, keyed = caller.send, {**admin, "idempotency-key": KEY}
    ada = new_user("ada", password=PASSWORDS[0])
    for _ in range(2):
        send("POST", "/users", 201, json=ada, headers=keyed)
        send("PATCH", "/users/2", 200, json={"password": PASSWORDS[1]}, headers=keyed)
    send("POST", "/users", 409, json=ada, headers=admin)
    send("POST", "/users", 409, json=[new_user("bob", password=PASSWORDS[2]), ada], headers=admin)
    send("PATCH", "/users", 200, json=[{"id": 2, "password": PASSWORDS[3]}], headers=admin)
    send("PUT", "/users/2", 200, json={**ada, "password": PASSWORDS[4]}, headers=admin)
    send("GET", "/users/2?include=items", 200, headers=admin)
    send("GET", "/users", 200, headers=admin)
    for body in ({"password": [PASSWORDS[5]]}, {"password": 200 * PASSWORDS[5]}, {"name": {"x": PASSWORDS[5]}}):
        send("PATCH", "/users/2", 422, json=body, headers=admin)
    for content in (f'{{"password": "{PASSWORDS[5]}"', f'{{"password": "{PASSWORDS[5]}\\u0000"}}'):
        headers = {**admin, "content-type": "application/json"}
        send("PATCH", "/users/2", 200, 400, 422, content=content, headers=headers)
    send("PUT", "/users/2", 200, json={**ada, "password": PASSWORDS[4]}, headers=admin)
    token = caller.new_token("/users/2/tokens", json={"name": "ci"}, headers=keyed)
    send("POST", "/users/2/tokens", 201, json={"name": "ci"}, headers=keyed)
    send("GET", "/users/2/tokens", 200, headers=bearer(token))
    caller.new_token("/tokens", headers=basic("ada", PASSWORDS[4]))
    for headers in (basic("ada", PASSWORDS[5]), basic(PASSWORDS[5], "x"), {"authorization": f"Basic {PASSWORDS[5]}"}):
        send("POST", "/tokens", 401, headers=headers)
    wrong = caller.canaries.add_token(new_token())
    for text in (JWT, wrong, f"{wrong}x", f"{wrong} {PASSWORDS[5]}", PASSWORDS[5]):
        send("GET", "/users/2", 401, headers={"authorization": f"Bearer {text}"})
    send("GET", "/users/2", 401, headers={"authorization": PASSWORDS[5]})


async def stored(database_url: str) -> str:
    """Return what the tables have that are no tables of secrets."""
    statements = ("SELECT * FROM idempotency_keys", "SELECT * FROM audit_log")
    return str([await execute(database_url, statement) for statement in statements])


@pytest.mark.parametrize("debug", ["off", "on"])
def test_no_secret_comes_out_of_the_service(backend: str, database_url: str, debug: str) -> None:
    with asyncio.Runner() as runner:
        roles = AsyncExitStack()
        url = database_url
        if backend == "postgresql":
            url = runner.run(roles.enter_async_context(service_role(database_url)))
        canaries = Canaries(url)
        runner.run(store_user(database_url, "root", "admin"))
        admin = bearer(canaries.add_token(runner.run(issue(database_url, 1))))
        serving = ServiceProcess(url, ITEMSVC_AUTH="tokens", ITEMSVC_DEBUG=debug, ITEMSVC_ACCESS_LOG="on")
        with serving as service, service.client() as client:
            caller = Caller(client, canaries)
            ask(caller, admin)
            canaries.add(runner.run(stored(database_url)))
            runner.run(execute(database_url, "ALTER TABLE users RENAME COLUMN password_hash TO hash"))
            body = new_user("cleo", password=PASSWORDS[0])
            for request in (body, [body]):
                caller.send("POST", "/users", 503, json=request, headers=admin)
            caller.send("PATCH", "/users/2", 503, json={"password": PASSWORDS[1]}, headers=admin)
            caller.send("POST", "/tokens", 503, headers=basic("ada", PASSWORDS[4]))
            canaries.add(service.log)
            assert ("password_hash" in service.log, "Traceback" in service.log) == (True, debug == "on")
        runner.run(roles.aclose())
    assert list(canaries.found()) == []


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("debug", ["off", "on"])
def test_no_command_prints_the_databases_password(run: Run, database_url: str, debug: str) -> None:
    right, canary = make_url(database_url), "canary-database/password"
    wrong = right.set(password=canary)
    secrets = {each for text in (canary, str(right.password)) for each in (text, quote(text, safe=""))}
    for url in (right, wrong, wrong.set(port=1), wrong.set(drivername="nothing"), wrong.set(query={"no": "option"})):
        text = url.render_as_string(hide_password=False)
        for arguments in (["check"], ["migrate", "current"], ["token", "list"]):
            done = run(*arguments, DATABASE_URL=text, ITEMSVC_DEBUG=debug)
            assert [secret for secret in secrets if secret in done.out + done.err] == [], (arguments, done)
            assert (done.code == 0) == (url is right)


def test_no_repr_shows_a_secret() -> None:
    canary = "canary-secret"
    shown = [
        Settings(database_url=f"postgresql+asyncpg://user:{canary}@host/database"),
        UserCreate("ada", "a@b", "Ada", password=canary),
        Credentials("ada", canary),
        DatabaseCredentials("user", canary),
        UserCaller(1, "writer", is_active=True, password_hash=canary),
        TokenCaller(1, canary, None, 1, "writer", is_active=True),
    ]
    assert [each for each in shown if canary in repr(each) + str(each)] == []
