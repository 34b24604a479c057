"""All of the API, one line for each method of each path. The first match serves, so the most used path is first."""

from starlette.routing import Route

from service.http.operation import Operation, Resource
from service.http.problems import INVALID_CURSOR, ITEM_NOT_FOUND, NOT_READY, OVERLOADED, STALE
from service.http.response import NO_STORE
from service.resources import documents, health
from service.resources.items import (
    create_items,
    delete_item,
    delete_items,
    list_items,
    read_item,
    replace_item,
    update_item,
    update_items,
)

ROUTES = [
    Route(
        "/items/{id}",
        Resource(
            GET=Operation(read_item),
            PUT=Operation(replace_item),
            PATCH=Operation(update_item),
            DELETE=Operation(delete_item, status=204),
        ),
    ),
    Route(
        "/items",
        Resource(
            GET=Operation(
                list_items,
                headers={"Link": "The next page, if there is one.", "X-Total-Count": "How many items the list has."},
                problems=[INVALID_CURSOR],
            ),
            POST=Operation(
                create_items,
                status=201,
                location=b"/items/%d",
                headers={"Location": "The path of the new item, if the body is one item."},
            ),
            PATCH=Operation(update_items, problems=[ITEM_NOT_FOUND, STALE]),
            DELETE=Operation(delete_items),
        ),
    ),
    Route("/livez", Resource(GET=Operation(health.live, cache_control=NO_STORE))),
    Route("/readyz", Resource(GET=Operation(health.ready, problems=[NOT_READY], cache_control=NO_STORE))),
    Route("/openapi.json", Resource(GET=Operation(documents.openapi, problems=[OVERLOADED]))),
]
