"""Users at once, from several instances of the service on one database: races for names, owners and swaps."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest

from service.settings import Settings
from tests.api.test_idempotency import with_key
from tests.support.responses import code, create_item, everything, execute, pointers, serving
from tests.support.users import create_user, create_users, every_user, new_user, ordered

ROUNDS = 15
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


@pytest.fixture
async def instances(settings: Settings) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Return clients of two instances that have nothing in common but the database."""
    async with serving(settings) as one, serving(settings) as other:
        yield [one, other]


def statuses(responses: Sequence[httpx.Response]) -> dict[int, int]:
    return dict(Counter(response.status_code for response in responses))


@pytest.mark.parametrize("settings", [{}, {"coalesce": False}], indirect=True, ids=["batchers", "alone"])
@pytest.mark.parametrize("has_key", [False, True], ids=["", "with key"])
async def test_of_users_created_at_once_with_one_name_exactly_one_is(
    instances: list[httpx.AsyncClient], has_key: bool
) -> None:
    for n in range(ROUNDS):
        creations = [
            client.post(
                "/users",
                json=new_user(f"user-{n}", email=f"{'Ab'[k % 2]}{n}@x" if k % 3 else f"{k}-{n}@y"),
                headers=with_key(f"{n}-{k}") if has_key else {},
            )
            for k, client in enumerate(instances * 4)
        ]
        responses = await asyncio.gather(*creations)
        assert statuses(responses) == {201: 1, 409: len(responses) - 1}
        for response in responses:
            if response.status_code == 409:
                assert code(response) == (409, "already-exists")
                assert "/username" in pointers(response)
    assert len(await every_user(instances[0])) == ROUNDS


async def test_of_batches_created_at_once_that_share_a_name_exactly_one_is(instances: list[httpx.AsyncClient]) -> None:
    for n in range(ROUNDS):
        batches = [[new_user(f"user-{n}-{k}"), new_user(f"shared-{n}")] for k in range(4)]
        responses = await asyncio.gather(
            *(client.post("/users", json=batch) for client, batch in zip(instances * 2, batches, strict=True))
        )
        assert statuses(responses) == {201: 1, 409: 3}
        assert all(pointers(one) == ["/1/username", "/1/email"] for one in responses if one.status_code == 409)
    assert len(await every_user(instances[0])) == 2 * ROUNDS


async def test_of_patches_at_once_to_one_name_exactly_one_wins(instances: list[httpx.AsyncClient]) -> None:
    users = await create_users(instances[0], [f"user-{n}" for n in range(6)])
    for n in range(ROUNDS):
        responses = await asyncio.gather(
            *(
                client.patch(f"/users/{user['id']}", json={"email": f"{'sS'[k % 2]}hared-{n}@x"})
                for k, (client, user) in enumerate(zip(instances * 3, users, strict=True))
            )
        )
        assert statuses(responses) == {200: 1, 409: 5}


@pytest.mark.parametrize("settings", [{"debug": True}], indirect=True)
@pytest.mark.parametrize("twin", ["of one that was there", "of another one of them"])
async def test_one_taken_name_costs_its_batch_a_handful_of_statements(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, twin: str
) -> None:
    caplog.set_level(logging.INFO, "sqlalchemy.engine")
    await create_user(client)
    bodies = [new_user(f"user-{n}") for n in range(256)]
    bodies[128] = new_user("ada", email="x@y") if twin == "of one that was there" else new_user("user-7", email="x@y")
    caplog.clear()
    responses = await asyncio.gather(*(client.post("/users", json=body) for body in bodies))
    assert statuses(responses) == {201: 255, 409: 1}
    assert pointers(responses[128]) == ["/username"]
    assert [response.json().get("username") for response in responses if response.status_code == 201] == [
        body["username"] for n, body in enumerate(bodies) if n != 128
    ]
    statements = [record.getMessage() for record in caplog.records if record.name.startswith("sqlalchemy.engine")]
    inserted = [sum(f"INSERT INTO {table} " in text for text in statements) for table in ("users", "audit_log")]
    assert all(1 <= number <= 8 for number in inserted), inserted
    assert len(statements) <= 80
    assert len(await every_user(client)) == 256


async def test_an_item_created_while_its_owner_is_deleted_has_an_owner_or_is_refused(
    instances: list[httpx.AsyncClient],
) -> None:
    one, other = instances
    for n in range(ROUNDS):
        user = await create_user(one, f"user-{n}")
        owned = {"name": "lamp", "price": 1, "owner_id": user["id"]}
        created, batch, deleted = await asyncio.gather(
            one.post("/items", json=owned),
            one.post("/items", json=[owned]) if n % 2 else other.post("/items", json=[owned]),
            other.delete(f"/users/{user['id']}") if n % 3 else other.delete(f"/users?ids={user['id']}"),
        )
        is_deleted = (await one.get(f"/users/{user['id']}")).status_code == 404
        for response, pointer in ((created, "/owner_id"), (batch, "/0/owner_id")):
            if is_deleted:
                assert (code(response), pointers(response)) == ((422, "unknown-reference"), [pointer])
            else:
                assert response.status_code in {201, 422}
        if is_deleted:
            assert deleted.is_success
        else:
            assert code(deleted) == (409, "owns-items")
    owners = {user["id"] for user in await every_user(one)}
    assert {item["owner_id"] for item in await everything(one)} <= owners


async def test_an_item_that_gets_an_owner_who_is_reassigned_and_deleted_is_not_lost(
    instances: list[httpx.AsyncClient],
) -> None:
    one, other = instances
    heir = await create_user(one, "heir")
    for n in range(ROUNDS):
        user = await create_user(one, f"user-{n}")
        lamp = await create_item(one)
        given, created, deleted = await asyncio.gather(
            one.patch(f"/items/{lamp['id']}", json={"owner_id": user["id"]}),
            one.post("/items", json={"name": "lamp", "price": 1, "owner_id": user["id"]}),
            other.delete(f"/users/{user['id']}?reassign_to={heir['id']}"),
        )
        assert deleted.status_code == 204, deleted.content
        for response, status in ((given, 200), (created, 201)):
            assert response.status_code == status or code(response) == (422, "unknown-reference")
    assert {item["owner_id"] for item in await everything(one)} <= {None, heir["id"]}


async def test_who_is_to_own_the_items_is_not_deleted_meanwhile(instances: list[httpx.AsyncClient]) -> None:
    for n in range(ROUNDS):
        users = await create_users(instances[0], [f"a-{n}", f"b-{n}"])
        await create_item(instances[0], owner_id=users[0]["id"])
        reassigned, deleted = await asyncio.gather(
            instances[0].delete(f"/users/{users[0]['id']}?reassign_to={users[1]['id']}"),
            instances[1].delete(f"/users/{users[1]['id']}"),
        )
        if deleted.status_code == 204:
            assert (code(reassigned), pointers(reassigned)) == ((422, "unknown-reference"), ["/reassign_to"])
        else:
            assert (reassigned.status_code, code(deleted)) == (204, (409, "owns-items"))
    owners = {user["id"] for user in await every_user(instances[0])}
    assert {item["owner_id"] for item in await everything(instances[0])} <= owners


async def test_users_who_take_over_from_each_other_at_once_neither_both_go_nor_deadlock(
    instances: list[httpx.AsyncClient], settings: Settings, backend: str
) -> None:
    for n in range(ROUNDS):
        one, other = await create_users(instances[0], [f"a-{n}", f"b-{n}"])
        for user in (one, other):
            await create_item(instances[0], owner_id=user["id"])
        responses = await asyncio.gather(
            instances[0].delete(f"/users/{one['id']}?reassign_to={other['id']}"),
            instances[1].delete(f"/users/{other['id']}?reassign_to={one['id']}"),
        )
        assert sorted(response.status_code for response in responses) == [204, 422]
    assert len(await every_user(instances[0])) == ROUNDS
    owners = [item["owner_id"] for item in await everything(instances[0])]
    assert Counter(owners) == dict.fromkeys((user["id"] for user in await every_user(instances[0])), 2)
    if backend == "postgresql":
        assert await execute(settings.database_url, DEADLOCKS) == [(0,)]


async def test_swaps_at_once_all_happen(instances: list[httpx.AsyncClient]) -> None:
    users = await create_users(instances[0], [f"user-{n}" for n in range(4)])
    names = [user["username"] for user in users]

    async def rotate(client: httpx.AsyncClient, order: Sequence[int]) -> httpx.Response:
        patches = [{"id": users[n]["id"], "username": names[(n + order[0] + 1) % 4]} for n in order]
        return await client.patch("/users", json=patches)

    for _ in range(ROUNDS):
        responses = await asyncio.gather(
            rotate(instances[0], (0, 1, 2, 3)), rotate(instances[1], (3, 2, 1, 0)), rotate(instances[1], (2, 0, 3, 1))
        )
        assert statuses(responses) == {200: 3}
    found = await every_user(instances[0])
    assert [user["version"] for user in found] == [1 + 3 * ROUNDS] * 4
    assert [user["username"] for user in ordered(found, "username")] == sorted(names)


async def test_changes_of_names_and_swaps_at_once_lose_no_user(instances: list[httpx.AsyncClient]) -> None:
    ada, bob = await create_users(instances[0], ["ada", "bob"])
    swap = [{"id": ada["id"], "username": "bob"}, {"id": bob["id"], "username": "ada"}]
    for n in range(ROUNDS):
        responses = await asyncio.gather(
            instances[0].patch("/users", json=swap if n % 2 == 0 else [*reversed(swap)]),
            instances[1].patch(f"/users/{ada['id']}", json={"username": f"ada-{n}"}),
            instances[0].patch(f"/users/{bob['id']}", json={"username": "ada"}),
            instances[1].post("/users", json=new_user("bob", email=f"{n}@x")),
        )
        assert all(response.status_code in {200, 201, 409} for response in responses), statuses(responses)
        for user in await every_user(instances[0]):
            if user["id"] not in {ada["id"], bob["id"]}:
                await instances[0].delete(f"/users/{user['id']}")
        left = await every_user(instances[0])
        assert [user["id"] for user in left] == [ada["id"], bob["id"]]
        assert all(len(user["username"]) < 10 for user in left)
