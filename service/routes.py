"""All of the API. The first match serves, so the most used path is first."""

from starlette.routing import Route

from service.http.operation import Operation, Resource
from service.http.problems import NOT_READY, OVERLOADED, UNKNOWN_REFERENCE
from service.http.response import NO_STORE
from service.resources import documents, health, items, users

READ_USER = Operation(users.read_user)
DELETE_USER = Operation(users.delete_user, status=204, problems=[UNKNOWN_REFERENCE])

ROUTES = [
    *items.COLLECTION.routes(),
    *users.COLLECTION.routes(GET=READ_USER, DELETE=DELETE_USER),
    Route("/livez", Resource("", GET=Operation(health.live, cache_control=NO_STORE))),
    Route("/readyz", Resource("", GET=Operation(health.ready, problems=[NOT_READY], cache_control=NO_STORE))),
    Route("/openapi.json", Resource("", GET=Operation(documents.openapi, problems=[OVERLOADED]))),
]
