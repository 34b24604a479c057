"""Use the service through the client of openapi-generator for Python: its models are pydantic's."""

import json
import sys
from typing import Any

import pydantic_client as generated
from pydantic_client.exceptions import ApiException


def one_of(response: Any) -> Any:
    """Return what a response of one of several forms has."""
    return response.actual_instance


def refused(call: Any, *arguments: Any, **more: Any) -> tuple[int, str]:
    """Return the status and the code of a call that is refused."""
    try:
        call(*arguments, **more)
    except ApiException as problem:
        return problem.status, json.loads(problem.body)["code"]
    raise AssertionError(f"{call.__name__} was not refused")


def use_items(items: Any) -> None:
    """Create, read, list, change and delete items."""

    def create(body: Any) -> Any:
        return one_of(items.create_items(generated.CreateItemsRequest(body)))

    big = 9_007_199_254_740_993 / 4
    lamp = create(generated.ItemCreate(name="lamp", price=9.5))
    assert isinstance(lamp, generated.ItemResponse)
    desk, chair = create([generated.ItemCreate(name="desk", price=big), generated.ItemCreate(name="chair", price=45)])
    assert (desk.price, chair.in_stock) == (big, True)
    assert items.read_item(lamp.id) == lamp
    assert items.list_items(order="-price", limit=2)[0] == desk
    assert items.list_items(ids=[chair.id, lamp.id]) == [chair, lamp]
    patch = generated.ItemPatch(price=8.0, owner_id=None)
    # As x_request_timeout=2.5 the client would give urllib3 a number, which it takes for no header.
    changed = items.update_item(lamp.id, patch, if_match='"1-json"', _headers={"X-Request-Timeout": "2.5"})
    assert (changed.name, changed.price, changed.version) == ("lamp", 8.0, 2)
    assert refused(items.update_item, lamp.id, patch, if_match='"1-json"') == (412, "stale")
    lantern = generated.ItemCreate(name="lantern", price=7.0)
    replaced = [items.replace_item(lamp.id, lantern, idempotency_key="twice") for _ in range(2)]
    assert replaced[0] == replaced[1]
    several = [generated.BatchItemPatch(id=one.id, price=1.0) for one in (chair, desk)]
    assert [one.price for one in items.update_items(several)] == [1.0, 1.0]
    items.delete_item(lamp.id)
    assert refused(items.read_item, lamp.id) == (404, "item-not-found")
    assert items.delete_items([desk.id, chair.id]) == [desk.id, chair.id]


def use_users(users: Any, items: Any) -> None:
    """Create, read, list, change and delete users."""

    def new(name: str) -> Any:
        fields = {"username": name, "email": f"{name}@example.org", "name": name.title()}
        return generated.UserCreate(**fields, password="correct horse battery staple")

    def create(body: Any) -> Any:
        return one_of(users.create_users(generated.CreateUsersRequest(body)))

    ada = create(new("ada"))
    assert isinstance(ada, generated.UserResponse)
    bob, eve = create([new("bob"), new("eve")])
    assert refused(create, new("ada")) == (409, "already-exists")
    assert one_of(users.read_user(ada.id)).username == "ada"
    item = generated.ItemCreate(name="lamp", price=9.5, owner_id=ada.id)
    owned = one_of(items.create_items(generated.CreateItemsRequest(item)))
    assert one_of(users.read_user(ada.id, include="items")).items == [owned]
    assert users.list_users(ids=[eve.id, bob.id]) == [eve, bob]
    assert users.update_user(bob.id, generated.UserPatch(role="admin")).role == "admin"
    assert users.replace_user(bob.id, new("rob")).username == "rob"
    several = [generated.BatchUserPatch(id=one.id, is_active=False) for one in (bob, eve)]
    assert [one.is_active for one in users.update_users(several)] == [False, False]
    users.delete_user(ada.id, reassign_to=bob.id)
    assert items.delete_items([owned.id]) == [owned.id]
    assert users.delete_users([bob.id, eve.id]) == [bob.id, eve.id]


if __name__ == "__main__":
    with generated.ApiClient(generated.Configuration(host=sys.argv[1])) as opened:
        use_items(generated.ItemsApi(opened))
        use_users(generated.UsersApi(opened), generated.ItemsApi(opened))
