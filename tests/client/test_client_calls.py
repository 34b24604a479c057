"""What the client's methods do, against the service."""

import asyncio
from typing import Any

import pytest

import items_client
from items_client import Client, Item, ItemChanges, ItemCreate, ItemPatch, UserCreate, UserPatch
from tests.support.issued import issue, store_user
from tests.support.serving import ServiceProcess

LAMP = ItemCreate("lamp", 9.5)
PASSWORD = "correct horse battery staple"


def new_user(username: str, **fields: Any) -> UserCreate:
    return UserCreate(username, f"{username}@example.org", "Ada", **fields)


async def listed(client: Client, **filters: Any) -> list[str]:
    return [item.name async for item in client.items.list(**filters)]


async def test_an_item_is_created_read_changed_replaced_and_deleted(caller: Client) -> None:
    lamp = await caller.items.create(LAMP)
    assert (lamp.name, lamp.price, lamp.in_stock, lamp.owner_id, lamp.version) == ("lamp", 9.5, True, None, 1)
    assert await caller.items.get(lamp.id) == lamp
    cheaper = await caller.items.update(lamp, price=8)
    assert (cheaper.price, cheaper.name, cheaper.version) == (8.0, "lamp", 2)
    assert cheaper.updated_at >= cheaper.created_at == lamp.created_at
    desk = await caller.items.replace(cheaper, ItemCreate("desk", 120, in_stock=False))
    assert (desk.id, desk.name, desk.in_stock, desk.version) == (lamp.id, "desk", False, 3)
    await caller.items.delete(desk)
    with pytest.raises(items_client.NotFound) as missing:
        await caller.items.get(lamp.id)
    assert (missing.value.code, missing.value.status) == ("item-not-found", 404)
    assert missing.value.request_id in str(missing.value)


async def test_a_write_of_what_was_read_is_refused_when_another_was_faster(caller: Client) -> None:
    lamp = await caller.items.create(LAMP)
    await caller.items.update(lamp.id, price=1)
    for write in (
        lambda: caller.items.update(lamp, price=2),
        lambda: caller.items.replace(lamp, LAMP),
        lambda: caller.items.delete(lamp),
    ):
        with pytest.raises(items_client.VersionMismatch):
            await write()
    assert (await caller.items.get(lamp.id)).price == 1
    await caller.items.replace(lamp.id, LAMP)
    await caller.items.delete(lamp.id)


async def test_batches_keep_their_order_and_leave_out_what_is_not_there(caller: Client, prefix: str) -> None:
    made = await caller.items.create_many([ItemCreate(prefix + name, 1) for name in "abc"])
    assert [item.name for item in made] == [f"{prefix}a", f"{prefix}b", f"{prefix}c"]
    [first, second, third] = [item.id for item in made]
    assert [item.id for item in await caller.items.get_many([third, 10**9, first])] == [third, first]
    patches = [ItemPatch(second, price=2), ItemPatch(first, version=1, in_stock=False)]
    changed = await caller.items.update_many(patches)
    assert [(item.id, item.price, item.in_stock) for item in changed] == [(second, 2, True), (first, 1, False)]
    assert await caller.items.delete_many([third, 10**9]) == [third]
    assert await listed(caller, name_prefix=prefix) == [f"{prefix}a", f"{prefix}b"]


async def test_empty_batches_need_no_request() -> None:
    async with Client("http://127.0.0.1:1") as client:
        assert await client.items.get_many([]) == []
        assert await client.items.create_many([]) == []
        assert await client.items.update_many([]) == []
        assert await client.items.delete_many([]) == []


async def test_a_list_yields_every_item_of_every_page_in_order_and_by_its_filters(caller: Client, prefix: str) -> None:
    names = [f"{prefix}&{number:02}" for number in range(25)]
    rows = [ItemCreate(name, number, in_stock=number % 2 == 0) for number, name in enumerate(names)]
    await caller.items.create_many(rows)
    assert await listed(caller, page_size=10, name_prefix=prefix) == names
    found = await listed(caller, page_size=2, order="-price", in_stock=True, price_max=10, name_prefix=f"{prefix}&")
    assert found == [names[number] for number in (10, 8, 6, 4, 2, 0)]
    assert [len(page) async for page in caller.items.pages(page_size=12, name_prefix=prefix)] == [12, 12, 1]
    assert await listed(caller, name_prefix=f"{prefix}m") == []


async def test_users_are_created_read_with_their_items_changed_and_deleted(caller: Client, prefix: str) -> None:
    ada = await caller.users.create(new_user(f"{prefix}ada", password=PASSWORD))
    bob = await caller.users.create(new_user(f"{prefix}bob", role="reader"))
    bicycle = await caller.items.create(ItemCreate("bicycle", 300, owner_id=ada.id))
    with_items = await caller.users.get_with_items(ada.id)
    assert (with_items.username, with_items.items) == (f"{prefix}ada", [bicycle])
    ada = await caller.users.update(ada, name="Ada L.", password=None)
    assert (ada.name, ada.version, ada.role) == ("Ada L.", 2, "writer")
    [ada] = await caller.users.update_many([UserPatch(ada.id, role="admin")])
    assert [user async for user in caller.users.list(role="admin", username=ada.username)] == [ada]
    ids = [user.id async for user in caller.users.list(order="-username", page_size=1)]
    assert ids.index(ada.id) == ids.index(bob.id) + 1
    with pytest.raises(items_client.Conflict) as owning:
        await caller.users.delete(ada)
    assert owning.value.code == "owns-items"
    await caller.users.delete_and_reassign(ada, bob.id)
    assert (await caller.items.get(bicycle.id)).owner_id == bob.id


async def test_concurrent_changes_of_one_item_are_all_made(caller: Client) -> None:
    def more_expensive(item: Item) -> ItemChanges:
        return {"price": item.price + 1}

    lamp = await caller.items.create(ItemCreate("lamp", 0))
    await asyncio.gather(*(caller.items.read_modify_write(lamp.id, more_expensive) for _ in range(8)))
    changed = await caller.items.get(lamp.id)
    assert (changed.price, changed.version) == (8, 9)


async def test_what_is_wrong_with_values_is_in_the_error(caller: Client, prefix: str) -> None:
    with pytest.raises(items_client.Invalid) as invalid:
        await caller.items.create_many([LAMP, ItemCreate("", -1)])
    assert [error.pointer for error in invalid.value.errors] == ["/1/name", "/1/price"]
    assert "/1/price" in str(invalid.value)
    await caller.users.create(new_user(f"{prefix}bob"))
    with pytest.raises(items_client.AlreadyExists) as taken:
        await caller.users.create(new_user(f"{prefix}bob"))
    assert [error.pointer for error in taken.value.errors] == ["/username", "/email"]
    with pytest.raises(items_client.Invalid) as unknown:
        await caller.items.create(ItemCreate("lamp", 1, owner_id=10**9))
    assert unknown.value.code == "unknown-reference"


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_callers_have_tokens_and_roles(database_url: str) -> None:
    token = await issue(database_url, await store_user(database_url, "carol", "reader"))
    with ServiceProcess(database_url, ITEMSVC_AUTH="tokens") as service:
        async with Client(service.url, token=token) as reader, Client(service.url) as nobody:
            assert await listed(reader) == []
            with pytest.raises(items_client.Forbidden):
                await reader.items.create(LAMP)
            with pytest.raises(items_client.Unauthorized):
                await listed(nobody)


async def test_a_path_that_is_not_there_is_no_row_that_is_missing(service: ServiceProcess) -> None:
    async with Client(f"{service.url}/elsewhere/") as client:
        with pytest.raises(items_client.Incompatible) as missing:
            await client.items.get(1)
    assert missing.value.code == "no-such-path"


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://127.0.0.1", "http://", "http://items.test/?a=1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        Client(url)
    with pytest.raises(ValueError, match="timeout"):
        Client("http://items.test", timeout=0)


async def test_outside_of_its_block_a_client_sends_nothing() -> None:
    with pytest.raises(RuntimeError, match="with block"):
        await Client("http://127.0.0.1:1").items.get(1)


def test_a_password_is_in_no_repr() -> None:
    assert "horse" not in f"{new_user('ada', password=PASSWORD)!r} {UserPatch(1, password=PASSWORD)!r}"
