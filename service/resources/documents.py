"""What describes the service to programs and to people."""

from typing import Any

from service.context import Context


async def openapi(context: Context) -> dict[str, Any]:
    """Return the OpenAPI document."""
    return context.document()
