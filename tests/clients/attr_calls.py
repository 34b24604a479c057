"""Use the service through the client of openapi-python-client: its models are attrs classes."""

import sys
from http import HTTPStatus
from importlib import import_module
from typing import Any

from attr_client import Client, models


class Resource:
    """The calls of one resource."""

    def __init__(self, client: Client, name: str) -> None:
        self._client, self._name = client, name

    def call(self, operation: str, *path: Any, status: int = 200, **arguments: Any) -> Any:
        """Return what a call responds, once its status is the one expected."""
        module = import_module(f"attr_client.api.{self._name}.{operation}")
        response = module.sync_detailed(*path, client=self._client, **arguments)
        assert response.status_code == HTTPStatus(status), (operation, response)
        return response.parsed


def use_items(items: Resource) -> None:
    """Create, read, list, change and delete items."""
    big = 9_007_199_254_740_993 / 4
    lamp = items.call("create_items", body=models.ItemCreate("lamp", price=9.5), status=201)
    assert isinstance(lamp, models.ItemResponse)
    desk, chair = items.call(
        "create_items", body=[models.ItemCreate("desk", big), models.ItemCreate("chair", 45)], status=201
    )
    assert (desk.price, chair.in_stock) == (big, True)
    assert items.call("read_item", lamp.id) == lamp
    assert items.call("list_items", order=models.ListItemsOrder.VALUE_3, limit=2)[0] == desk
    assert items.call("list_items", ids=[chair.id, lamp.id]) == [chair, lamp]
    patch = models.ItemPatch(price=8.0, owner_id=None)
    changed = items.call("update_item", lamp.id, body=patch, if_match='"1-json"', x_request_timeout=2.5)
    assert (changed.name, changed.price, changed.version) == ("lamp", 8.0, 2)
    assert (
        items.call("update_item", lamp.id, body=patch, if_match='"1-json"', status=412).code == models.ProblemCode.STALE
    )
    replaced = items.call("replace_item", lamp.id, body=models.ItemCreate("lantern", 7.0), idempotency_key="once")
    assert replaced == items.call(
        "replace_item", lamp.id, body=models.ItemCreate("lantern", 7.0), idempotency_key="once"
    )
    several = [models.BatchItemPatch(id=one.id, price=1.0) for one in (chair, desk)]
    assert [one.price for one in items.call("update_items", body=several)] == [1.0, 1.0]
    items.call("delete_item", lamp.id, status=204)
    assert items.call("read_item", lamp.id, status=404).code == models.ProblemCode.ITEM_NOT_FOUND
    assert items.call("delete_items", ids=[desk.id, chair.id]) == [desk.id, chair.id]


def use_users(users: Resource, items: Resource) -> None:
    """Create, read, list, change and delete users."""

    def new(name: str) -> Any:
        return models.UserCreate(name, f"{name}@example.org", name.title(), password="correct horse battery staple")

    ada = users.call("create_users", body=new("ada"), status=201)
    assert isinstance(ada, models.UserResponse)
    bob, eve = users.call("create_users", body=[new("bob"), new("eve")], status=201)
    assert users.call("create_users", body=new("ada"), status=409).code == models.ProblemCode.ALREADY_EXISTS
    assert users.call("read_user", ada.id) == ada
    owned = items.call("create_items", body=models.ItemCreate("lamp", 9.5, owner_id=ada.id), status=201)
    assert users.call("read_user", ada.id, include=models.ReadUserInclude.ITEMS).items == [owned]
    assert users.call("list_users", ids=[eve.id, bob.id]) == [eve, bob]
    changed = users.call("update_user", bob.id, body=models.UserPatch(role=models.UserPatchRole.ADMIN))
    assert changed.role == models.UserResponseRole.ADMIN
    assert users.call("replace_user", bob.id, body=new("rob")).username == "rob"
    several = [models.BatchUserPatch(id=one.id, is_active=False) for one in (bob, eve)]
    assert [one.is_active for one in users.call("update_users", body=several)] == [False, False]
    users.call("delete_user", ada.id, reassign_to=bob.id, status=204)
    assert items.call("delete_items", ids=[owned.id]) == [owned.id]
    assert users.call("delete_users", ids=[bob.id, eve.id]) == [bob.id, eve.id]


if __name__ == "__main__":
    with Client(base_url=sys.argv[1], raise_on_unexpected_status=True) as opened:
        use_items(Resource(opened, "items"))
        use_users(Resource(opened, "users"), Resource(opened, "items"))
