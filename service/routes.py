"""All of the API, one line for each method of each path. The first match serves, so the most used path is first."""

from starlette.routing import Route

from service.http.operation import Operation, Resource
from service.http.problems import NOT_READY, OVERLOADED, UNKNOWN_REFERENCE, already_exists, owned
from service.http.response import NO_STORE
from service.resources import documents, health, items, users

TAKEN = already_exists("user")
OWNS_ITEMS = owned("items")

ROUTES = [
    Route(
        "/items/{id}",
        Resource(
            "item",
            GET=Operation(items.read_item),
            PUT=Operation(items.replace_item),
            PATCH=Operation(items.update_item),
            DELETE=Operation(items.delete_item, status=204),
        ),
    ),
    Route(
        "/items",
        Resource(
            "item",
            GET=Operation(items.list_items),
            POST=Operation(items.create_items, status=201, location=b"/items/%d"),
            PATCH=Operation(items.update_items),
            DELETE=Operation(items.delete_items),
        ),
    ),
    Route(
        "/users/{id}",
        Resource(
            "user",
            GET=Operation(users.read_user),
            PUT=Operation(users.replace_user, problems=[TAKEN]),
            PATCH=Operation(users.update_user, problems=[TAKEN]),
            DELETE=Operation(users.delete_user, status=204, problems=[OWNS_ITEMS, UNKNOWN_REFERENCE]),
        ),
    ),
    Route(
        "/users",
        Resource(
            "user",
            GET=Operation(users.list_users),
            POST=Operation(users.create_users, status=201, location=b"/users/%d", problems=[TAKEN]),
            PATCH=Operation(users.update_users, problems=[TAKEN]),
            DELETE=Operation(users.delete_users, problems=[OWNS_ITEMS]),
        ),
    ),
    Route("/livez", Resource("", GET=Operation(health.live, cache_control=NO_STORE))),
    Route("/readyz", Resource("", GET=Operation(health.ready, problems=[NOT_READY], cache_control=NO_STORE))),
    Route("/openapi.json", Resource("", GET=Operation(documents.openapi, problems=[OVERLOADED]))),
]
