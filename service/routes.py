"""All of the API, in the order of the OpenAPI document."""

from starlette.routing import Route

from service.http.operation import Operation, Resource
from service.http.probe import Probe
from service.http.problems import (
    INVALID_CREDENTIALS,
    NO_SUCH_PATH,
    NOT_READY,
    OVERLOADED,
    TOO_MANY_TRIES,
    UNKNOWN_REFERENCE,
)
from service.http.response import NO_STORE
from service.http.text_probe import TextProbe
from service.resources import documents, health, items, tokens, users

# Beside those of the document.
METRICS = Route("/metrics", Resource("", GET=TextProbe(health.metrics, scope="metrics:read")))
ROUTES = [
    *items.COLLECTION.routes(),
    *users.COLLECTION.routes(
        GET=Operation(users.read_user, scope="users:read", own="id"),
        DELETE=Operation(users.delete_user, scope="users:write", status=204, problems=[UNKNOWN_REFERENCE]),
    ),
    Route(
        "/users/{id}/tokens",
        Resource(
            "user",
            GET=Operation(tokens.list_tokens, scope="tokens:read", own="id"),
            POST=Operation(
                tokens.issue_token,
                scope="tokens:write",
                own="id",
                is_audited=True,
                status=201,
                cache_control=NO_STORE,
            ),
        ),
    ),
    Route(
        "/tokens/{id}",
        Resource(
            "token",
            DELETE=Operation(tokens.revoke_token, scope="tokens:write", own_rows=True, is_audited=True, status=204),
        ),
    ),
    Route(
        "/tokens",
        Resource(
            "token",
            POST=Operation(
                tokens.log_in,
                by_password=True,
                is_audited=True,
                status=201,
                problems=[INVALID_CREDENTIALS, TOO_MANY_TRIES, NO_SUCH_PATH],
                cache_control=NO_STORE,
            ),
        ),
    ),
    Route("/livez", Resource("", GET=Probe(health.live))),
    Route("/readyz", Resource("", GET=Probe(health.ready, problems=[NOT_READY]))),
    Route("/openapi.json", Resource("", GET=Operation(documents.openapi, problems=[OVERLOADED]))),
]
