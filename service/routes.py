"""All of the API. The first match serves, so the most used path is first."""

from starlette.routing import Route

from service.http.operation import Operation, Resource
from service.http.probe import Probe
from service.http.problems import NOT_READY, OVERLOADED, UNKNOWN_REFERENCE
from service.resources import documents, health, items, users

ROUTES = [
    *items.COLLECTION.routes(),
    *users.COLLECTION.routes(
        GET=Operation(users.read_user, scope="users:read", own="id"),
        DELETE=Operation(users.delete_user, scope="users:write", status=204, problems=[UNKNOWN_REFERENCE]),
    ),
    Route("/livez", Resource("", GET=Probe(health.live))),
    Route("/readyz", Resource("", GET=Probe(health.ready, problems=[NOT_READY]))),
    Route("/openapi.json", Resource("", GET=Operation(documents.openapi, problems=[OVERLOADED]))),
]
