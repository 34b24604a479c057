"""The client for programs without an event loop."""

from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from threading import active_count

import pytest

import items_client
from items_client import ItemCreate, ItemPatch, SyncClient, UserCreate, UserPatch
from tests.support.serving import ServiceProcess


def test_a_script_calls_every_method(service: ServiceProcess, prefix: str) -> None:
    with SyncClient(service.url) as client:
        lamp = client.items.create(ItemCreate(f"{prefix}lamp", 9.5))
        assert client.items.get(lamp.id) == lamp
        lamp = client.items.update(lamp, price=8)
        lamp = client.items.replace(lamp, ItemCreate(f"{prefix}lamp", 7))
        lamp = client.items.read_modify_write(lamp.id, lambda item: {"price": item.price * 2})
        assert (lamp.price, lamp.version) == (14, 4)
        more = client.items.create_many([ItemCreate(f"{prefix}{number}", number) for number in range(5)])
        [more[0]] = client.items.update_many([ItemPatch(more[0].id, price=0.5)])
        assert client.items.get_many([item.id for item in more]) == more
        assert list(client.items.list(name_prefix=prefix, page_size=2)) == [lamp, *more]
        assert list(islice(client.items.list(name_prefix=prefix, page_size=2), 3)) == [lamp, *more[:2]]
        assert list(client.items.list(name_prefix=f"{prefix}none")) == []
        assert client.items.delete_many([item.id for item in more]) == [item.id for item in more]
        client.items.delete(lamp)
        with pytest.raises(items_client.NotFound):
            client.items.get(lamp.id)


def test_a_script_has_users(service: ServiceProcess, prefix: str) -> None:
    with SyncClient(service.url) as client:
        ada, bob = client.users.create_many(
            [UserCreate(f"{prefix}{name}", f"{prefix}{name}@example.org", name) for name in ("ada", "bob")]
        )
        item = client.items.create(ItemCreate(f"{prefix}bicycle", 300, owner_id=ada.id))
        assert client.users.get_with_items(ada.id).items == [item]
        ada = client.users.update(ada, name="Ada L.")
        [ada] = client.users.update_many([UserPatch(ada.id, version=ada.version, role="reader")])
        assert list(client.users.list(username=ada.username, role="reader")) == [ada]
        client.users.delete_and_reassign(ada, bob.id)
        assert client.items.get(item.id).owner_id == bob.id


def test_threads_share_a_client_and_none_is_left(service: ServiceProcess, prefix: str) -> None:
    before = active_count()
    with SyncClient(service.url) as client:
        with ThreadPoolExecutor(8) as threads:
            names = [f"{prefix}{number}" for number in range(32)]
            created = list(threads.map(lambda name: client.items.create(ItemCreate(name, 1)), names))
        assert [item.name for item in created] == names
    assert active_count() == before


def test_what_cannot_be_entered_leaves_nothing_behind() -> None:
    before = active_count()
    with pytest.raises(items_client.ConnectionFailed), SyncClient("http://127.0.0.1:1", timeout=0.05) as client:
        client.items.get(1)
    assert active_count() == before
