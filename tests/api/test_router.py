"""Paths: the application that Starlette's own router would run is the one that is run."""

from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, Router
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from service.http.router import PathRouter
from service.routes import ROUTES


class Named:
    """An application that responds with its name and the parameters of the path."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse([self.name, scope["path_params"]])(scope, receive, send)


async def nobody(scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse(["nobody", {}])(scope, receive, send)


def found(router: ASGIApp, path: str) -> Any:
    return TestClient(router).get(path).json()


PARTS = ["7", "items", "a%2Fb", "%2F", "ä", "", ".."]


def test_paths_lead_where_starlettes_router_would_lead() -> None:
    routes = [Route(route.path, Named(route.path)) for route in ROUTES]
    ours, theirs = (kind(routes, redirect_slashes=False, default=nobody) for kind in (PathRouter, Router))
    paths = {route.path.replace("{id}", part) for route in routes for part in PARTS}
    paths |= {f"{path}{ending}" for path in paths for ending in ("", "/", "/x", "//")} | {"/", "//items", "/nothing/7"}
    for path in sorted(paths):
        assert found(ours, path) == found(theirs, path), path


@pytest.mark.parametrize("order", [1, -1])
def test_a_path_without_a_parameter_comes_before_one_with_a_parameter(order: int) -> None:
    routes = [Route("/items/search", Named("search")), Route("/items/{id}", Named("one"))]
    router = PathRouter(routes[::order], default=nobody)
    assert found(router, "/items/search") == ["search", {}]
    assert found(router, "/items/7") == ["one", {"id": "7"}]


async def _endpoint(_request: Request) -> JSONResponse:
    return JSONResponse([])


@pytest.mark.parametrize(
    "routes",
    [
        [Route("/items", Named("a")), Route("/items", Named("b"))],
        [Route("/items/{id}", Named("a")), Route("/items/{name}", Named("b"))],
        [Route("/items", _endpoint, methods=["GET"])],
    ],
)
def test_routes_that_could_not_be_served_as_they_say_are_refused(routes: list[Route]) -> None:
    with pytest.raises(TypeError):
        PathRouter(routes)
