"""Routing by dictionaries: Starlette's own router tries one regular expression after another."""

from collections.abc import Awaitable, Sequence
from typing import Any

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send


class PathRouter(Router):
    """Starlette's router, which looks up most paths: `/items`, and `/items/{id}` by what stands before its parameter.

    It has what is left, such as a parameter in the middle, and paths that nobody serves. A path without a parameter
    comes before one with a parameter that would match it, in whichever order they are given. Raises TypeError for a
    path that is given twice, and for a route with methods, as each application here knows its own.
    """

    def __init__(self, routes: Sequence[Route], **options: Any) -> None:
        super().__init__(routes, **options)
        self._fixed: dict[str, ASGIApp] = {}
        self._parents: dict[str, tuple[str, ASGIApp]] = {}  # of the parameter, which has this name
        paths = [route.path for route in routes]
        if len(set(paths)) < len(paths):
            raise TypeError("two routes have the same path")
        for route in routes:
            if route.methods:
                raise TypeError(f"the route {route.path} has methods: its application has to be a Resource or a Probe")
            parent, _, last = route.path.rpartition("/")
            names = list(route.param_convertors)
            if not names:
                self._fixed[route.path] = route.app
            elif last == f"{{{names[0]}}}" and len(names) == 1:  # any text without a slash
                if parent in self._parents:
                    raise TypeError(f"two routes have a parameter after {parent}")
                self._parents[parent] = names[0], route.app

    def app(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:  # type: ignore[override] # as a coroutine
        """Run the application of a request's path."""
        if scope["type"] == "http":
            path = scope["path"]
            if path in self._fixed:
                scope["path_params"] = {}
                return self._fixed[path](scope, receive, send)
            parent, _, last = path.rpartition("/")
            if last and parent in self._parents:
                name, app = self._parents[parent]
                scope["path_params"] = {name: last}
                return app(scope, receive, send)
        return super().app(scope, receive, send)
