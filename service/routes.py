"""The whole surface, one line for each method of each path. The first that matches serves: the hottest stands first."""

from starlette.routing import Route

from service.http.operation import Operation, Resource
from service.http.problems import INVALID_CURSOR, ITEM_NOT_FOUND, NO_STORE, NOT_READY, OVERLOADED, STALE
from service.resources import documents, health
from service.resources.items import (
    change_item,
    change_items,
    create_items,
    delete_item,
    delete_items,
    list_items,
    read_item,
    replace_item,
)

ROUTES = [
    Route(
        "/items/{id}",
        Resource(
            GET=Operation(read_item),
            PUT=Operation(replace_item),
            PATCH=Operation(change_item),
            DELETE=Operation(delete_item, status=204),
        ),
    ),
    Route(
        "/items",
        Resource(
            GET=Operation(
                list_items,
                headers={"Link": "The next page, if there is one.", "X-Total-Count": "How many there are."},
                problems=[INVALID_CURSOR],
            ),
            POST=Operation(
                create_items,
                status=201,
                location=b"/items/%d",
                headers={"Location": "The new item, if it is one."},
            ),
            PATCH=Operation(change_items, problems=[ITEM_NOT_FOUND, STALE]),
            DELETE=Operation(delete_items),
        ),
    ),
    Route("/livez", Resource(GET=Operation(health.live, cache_control=NO_STORE))),
    Route("/readyz", Resource(GET=Operation(health.ready, problems=[NOT_READY], cache_control=NO_STORE))),
    Route("/openapi.json", Resource(GET=Operation(documents.openapi, problems=[OVERLOADED]))),
]
