"""Documents: what the service says of itself."""

from typing import Any

from service.context import Context


async def openapi(context: Context) -> dict[str, Any]:
    """Return the OpenAPI document.

    It is made from the operations that are served, and from the way in that the service is set to have. URLs are
    relative to its own, so it is right behind a proxy that has the service below another path, too.
    """
    return context.document()
