"""Each operation needs a scope: without a token it is a 401 before all else, without the scope a 403."""

import asyncio

import httpx
import pytest

from db.errors import NotFound
from db.tables.call import Call
from service.auth.principal import READER, SCOPES_BY_ROLE, principal_of
from service.http.operation import Operation, Resource
from service.http.probe import Probe
from service.routes import ROUTES
from tests.support.responses import code, problem
from tests.support.tokens import MemoryTokens, bearer
from tests.support.users import new_user
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

OPEN = {"/livez", "/readyz", "/openapi.json"}
ITEM = {"name": "lamp", "price": 1}
OPERATIONS: list[tuple[str, str, Operation]] = [
    (method, str(route.path), operation)
    for route in ROUTES
    if isinstance(route.endpoint, Resource)
    for method, operation in route.endpoint.operations.items()
]
BY_PASSWORD = {("POST", "/tokens")}
CLOSED = [
    (method, path.replace("{id}", "1"))
    for method, path, _ in OPERATIONS
    if path not in OPEN and (method, path) not in BY_PASSWORD
]
WRONG_CHECKSUM = "itm_" + 33 * "0"


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
def test_every_operation_but_probes_and_the_document_names_its_scope(
    method: str, path: str, operation: Operation
) -> None:
    assert operation.by_password == ((method, path) in BY_PASSWORD)
    if path in OPEN or operation.by_password:
        assert operation.scope is None
    else:
        assert not isinstance(operation, Probe)
        verb = "read" if method == "GET" else "write"
        assert operation.scope == f"{path.removesuffix('/{id}').split('/')[-1]}:{verb}"


def test_the_scopes_of_a_role_are_those_of_operations() -> None:
    known = {operation.scope for *_, operation in OPERATIONS} | {"*"}
    assert all(scope.removesuffix(":own") in known for scopes in SCOPES_BY_ROLE.values() for scope in scopes)


@pytest.mark.parametrize(
    ("role", "claimed", "granted"),
    [
        ("reader", {"items:read", "items:write"}, {"items:read"}),
        ("writer", {"items:write", "tokens:read"}, {"items:write", "tokens:read:own"}),
        # A stored token has all scopes, so who has fewer issues none.
        ("writer", {"items:read", "tokens:write"}, {"items:read"}),
        ("admin", {"tokens:write", "users:read"}, {"users:read"}),
        ("reader", READER, READER),
        ("reader", READER | {"items:write"}, READER),
        ("writer", {"users:read:own"}, {"users:read:own"}),
        ("writer", set(), set()),
        ("admin", {"items:read"}, {"items:read"}),
        ("admin", {"*"}, {"*"}),
        ("writer", {"*"}, set()),
        ("unknown", {"items:read"}, set()),
    ],
)
def test_scopes_that_a_credential_claims_are_those_of_the_role_at_most(
    role: str, claimed: set[str], granted: set[str]
) -> None:
    assert principal_of(7, role, claimed).scopes == granted


@pytest.mark.parametrize("path", sorted(OPEN))
async def test_probes_and_the_document_need_no_token(service: httpx.AsyncClient, path: str) -> None:
    assert (await service.get(path)).status_code == 200
    assert (await service.get(path, headers={"Authorization": "nonsense"})).status_code == 200


@pytest.mark.parametrize(("method", "path"), [*CLOSED, ("HEAD", "/items"), ("HEAD", "/items/1")])
async def test_without_a_token_every_operation_is_a_401_that_says_how_to_authenticate(
    service: httpx.AsyncClient, method: str, path: str
) -> None:
    response = await service.request(method, path)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Bearer realm="items"'
    assert method == "HEAD" or code(response) == (401, "unauthenticated")


@pytest.mark.parametrize(
    "authorization",
    [
        *("", "Bearer", "Bearer ", "Bearer lamp", "Bearer itm_", f"Bearer {WRONG_CHECKSUM}", f"Token {WRONG_CHECKSUM}"),
        *("Basic YWRhOnNlY3JldA==", "Bearer " + 10_000 * "x", "Bearer \xff", "Bearer itm_a, Bearer itm_b"),
    ],
)
async def test_a_header_that_has_no_token_is_a_401_without_a_look_up(
    service: httpx.AsyncClient, tokens: MemoryTokens, authorization: str
) -> None:
    response = await service.get("/items", headers={b"Authorization": authorization.encode("latin-1")})
    assert code(response) == (401, "invalid-token")
    assert response.headers["www-authenticate"] == 'Bearer realm="items", error="invalid_token"'
    assert tokens.lookups == 0


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/items/x", {}),
        ("GET", "/items?colour=red", {}),
        ("GET", "/items", {"Accept": "text/html"}),
        ("GET", "/items", {"X-Request-Timeout": "soon"}),
        ("POST", "/items", {"Content-Type": "text/plain"}),
        ("DELETE", "/items/1", {"If-None-Match": "*"}),
    ],
)
async def test_a_401_and_a_403_come_before_any_other_mistake(
    service: httpx.AsyncClient, tokens: MemoryTokens, method: str, path: str, headers: dict[str, str]
) -> None:
    assert (await service.request(method, path, headers=headers)).status_code == 401
    nobody = bearer(tokens.issue(1, "unknown role"))
    response = await service.request(method, path, headers={**headers, **nobody})
    assert code(response) == (403, "forbidden")
    verb = "read" if method == "GET" else "write"
    assert problem(response)["detail"] == f"The scope items:{verb} is missing."


async def test_a_reader_reads_items_and_writes_none(service: httpx.AsyncClient, tokens: MemoryTokens) -> None:
    reader = bearer(tokens.issue(1, "reader"))
    assert (await service.get("/items", headers=reader)).status_code == 200
    for method, path in CLOSED:
        if method != "GET" and "tokens" not in path:
            assert code(await service.request(method, path, headers=reader)) == (403, "forbidden")


async def test_only_an_admin_sees_and_changes_users_who_exist_or_do_not(
    service: httpx.AsyncClient, tokens: MemoryTokens, admin: dict[str, str]
) -> None:
    writer = bearer(tokens.issue(1, "writer"))
    for path in ("/users", "/users/2", "/users/777", "/users/01", "/users/x"):
        assert code(await service.get(path, headers=writer)) == (403, "forbidden")
    for method, path in CLOSED:
        if path.startswith("/users") and method != "GET" and "tokens" not in path:
            assert code(await service.request(method, path, headers=writer)) == (403, "forbidden")
    assert (await service.get("/users/2", headers=admin)).status_code == 200
    assert (await service.get("/users", headers=admin)).status_code == 200
    assert (await service.patch("/users/2", json={"name": "B"}, headers=admin)).status_code == 200


@pytest.mark.parametrize("role", ["reader", "writer"])
async def test_whoever_is_no_admin_may_read_their_own_user_with_the_items(
    service: httpx.AsyncClient, tokens: MemoryTokens, admin: dict[str, str], role: str
) -> None:
    assert admin
    own = bearer(tokens.issue(1, role))
    assert (await service.get("/users/1", headers=own)).json()["username"] == "ada"
    assert (await service.get("/users/1?include=items", headers=own)).json()["items"] == []
    assert (await service.head("/users/1", headers=own)).status_code == 200
    assert code(await service.get("/users/2?include=items", headers=own)) == (403, "forbidden")


async def test_callers_do_not_share_idempotency_keys(
    service: httpx.AsyncClient, tokens: MemoryTokens, admin: dict[str, str]
) -> None:
    headers = {"Idempotency-Key": "the-same"}
    body = new_user("cyd")
    first = await service.post("/users", json=body, headers={**headers, **admin})
    other = await service.post(
        "/users", json=new_user("dee"), headers={**headers, **bearer(tokens.issue(2_000_000, "admin"))}
    )
    repeated = await service.post(
        "/users", json=body, headers={**headers, **bearer(tokens.issue(1_000_000, "admin"))}
    )  # another token of the same user
    assert (first.status_code, other.status_code) == (201, 201)
    assert repeated.headers["idempotency-replayed"] == "true"
    assert repeated.json() == first.json()


@pytest.mark.parametrize("settings", [{"request_timeout_ms": 50, "statement_timeout_ms": 50}], indirect=True)
async def test_a_look_up_takes_no_longer_than_a_request_may(service: httpx.AsyncClient, tokens: MemoryTokens) -> None:
    reader = bearer(tokens.issue(1, "reader"))
    tokens.gate.clear()
    assert code(await service.get("/items", headers=reader)) == (504, "timeout")


@pytest.mark.parametrize("settings", [{"request_timeout_ms": 60_000}], indirect=True)
async def test_the_time_of_a_look_up_is_part_of_the_requests_own(
    service: httpx.AsyncClient, tokens: MemoryTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadlines = []

    async def get(_store: object, call: Call, _id: int) -> None:
        deadlines.append(call.deadline)
        raise NotFound([1], "item")

    monkeypatch.setattr("db.tables.store.Store.get", get)
    writer = bearer(tokens.issue(1, "writer"))
    loop = asyncio.get_running_loop()
    tokens.gate.clear()
    asked = asyncio.create_task(service.get("/items/1", headers={**writer, "X-Request-Timeout": "60"}))
    await until(lambda: tokens.lookups == 1)
    before = loop.time()
    tokens.gate.set()
    assert (await asked).status_code == 404
    assert deadlines[0] <= before + 60


async def test_who_is_shut_out_cannot_stay_by_changing_users_or_tokens(
    service: httpx.AsyncClient, tokens: MemoryTokens
) -> None:
    text = tokens.issue(1, "admin")
    assert (await service.get("/users", headers=bearer(text))).status_code == 200
    tokens.revoke(text)
    assert (await service.get("/users", headers=bearer(text))).status_code == 200  # for as long as it is kept
    for method, path in (
        ("POST", "/users"),
        ("PATCH", "/users/1"),
        ("POST", "/users/1/tokens"),
        ("DELETE", "/tokens/1"),
    ):
        assert code(await service.request(method, path, headers=bearer(text), json={})) == (401, "invalid-token")


async def test_a_look_up_that_takes_longer_than_the_client_waits_is_a_504_and_goes_on(
    service: httpx.AsyncClient, tokens: MemoryTokens
) -> None:
    reader = bearer(tokens.issue(1, "reader"))
    tokens.gate.clear()
    response = await service.get("/items", headers={**reader, "X-Request-Timeout": "0.001"})
    assert code(response) == (504, "timeout")
    tokens.gate.set()
    assert (await service.get("/items", headers={**reader, "X-Request-Timeout": "60"})).status_code == 200
    assert tokens.lookups == 1
