"""Handlers for the documents that describe the service."""

from typing import Any

from service.context import Context


async def openapi(context: Context) -> dict[str, Any]:
    """Return the OpenAPI document."""
    return context.document()
