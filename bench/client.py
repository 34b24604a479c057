"""A plain blocking HTTP client, for the questions asked before the timing."""

import http.client
import re
from collections.abc import Mapping
from typing import NamedTuple, Self

import msgspec

from bench.processes import HOST
from bench.responses import Item, decoded

RESPONSE_SECONDS_MAX = 10.0


class Target(NamedTuple):
    """Where a contestant listens, and the headers that it wants with every request."""

    port: int
    headers: Mapping[str, str] = {}


class Client:
    """One connection to one contestant; JSON goes out, bytes come back."""

    def __init__(self, target: Target) -> None:
        self._connection = http.client.HTTPConnection(HOST, target.port, timeout=RESPONSE_SECONDS_MAX)
        self._headers = target.headers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def page(self, path: str) -> tuple[list[Item], str]:
        """Return a page's items, and what its `Link` header calls the next page, or nothing."""
        self._connection.request("GET", path, headers=dict(self._headers))
        response = self._connection.getresponse()
        items = decoded(response.read(), list[Item])
        link = re.fullmatch('<(.*)>; rel="next"', response.headers["Link"] or "")
        return items, link[1] if link else ""

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Send one request and return the status and the body of its response."""
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        self._connection.request(method, path, content, {**self._headers, **headers})
        response = self._connection.getresponse()
        return response.status, response.read()


def serves(target: Target, path: str) -> bool:
    """Return whether a contestant serves this path already."""
    try:
        with Client(target) as client:
            status, _body = client.ask("GET", path)
    except (OSError, http.client.HTTPException):
        return False
    return status == http.client.OK
