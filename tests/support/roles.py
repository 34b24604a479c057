"""Roles of PostgreSQL that may do less than the owner of the tables."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import make_url

from db.engines.privileges import grants
from tests.support.responses import execute


@asynccontextmanager
async def service_role(owner_url: str) -> AsyncIterator[str]:
    """Make a role with the privileges that the service needs and no others, and yield its URL of the database."""
    async with role(owner_url) as url:
        await execute(owner_url, *grants(str(make_url(url).username)))
        yield url


@asynccontextmanager
async def role(owner_url: str, *grants: str) -> AsyncIterator[str]:
    """Make a role with these grants, each without its "TO …", yield its URL of the database, and drop it at the end."""
    name, password = f"role_{secrets.token_hex(4)}", secrets.token_hex(8)
    granted = [f"GRANT {grant} TO {name}" for grant in grants]
    await execute(owner_url, f"CREATE ROLE {name} LOGIN PASSWORD '{password}'", *granted)
    try:
        yield make_url(owner_url).set(username=name, password=password).render_as_string(hide_password=False)
    finally:
        await execute(owner_url, f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")
