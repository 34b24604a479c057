"""The resources that locust's users ask for: how a row is made, changed and listed."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Generic
from uuid import uuid4

from msgspec import Struct, structs

from bench.listings import OF_ITEMS, OF_USERS, Listing
from bench.responses import Item, R, User, decoded

PRICE_MAX = 1000
ROLES = "reader", "writer", "admin"

Body = dict[str, Any]


class Resource(Struct, Generic[R], frozen=True):
    """A resource, and what is asked of it."""

    path: str
    shape: type[R]
    new: Callable[[Random], Body]
    """Makes the body of a row that nobody has made before."""
    updated: str
    """The only field that updates change."""
    listings: Sequence[Listing[R]]

    def rows(self, content: bytes | None) -> list[R]:
        """Decode a list of rows."""
        return decoded(content, list[self.shape])  # type: ignore[name-defined] # a type when it runs

    def patch(self, chance: Random) -> Body:
        """Make a merge patch: another value for the field that updates change."""
        return {self.updated: self.new(chance)[self.updated]}

    def is_later(self, row: R, before: R) -> bool:
        """Return whether a row is what updates may have made of the one before."""
        changes = {name: getattr(before, name) for name in (self.updated, "version", "updated_at")}
        return structs.replace(row, **changes) == before


def new_item(chance: Random) -> Body:
    """Make the body of an item with a name of its own, and a price in whole cents."""
    price = chance.randrange(PRICE_MAX * 100) / 100
    return {"name": f"load-{uuid4().hex}", "price": price, "in_stock": chance.choice((True, False))}


def new_user(chance: Random) -> Body:
    """Make the body of a user without a password: to hash it would be most of the load."""
    unique = f"load-{uuid4().hex}"
    values = {"name": unique, "role": chance.choice(ROLES), "is_active": chance.choice((True, False))}
    return {"username": unique, "email": f"{unique}@example.org", **values}


ITEMS = Resource("/items", Item, new_item, "price", OF_ITEMS)
USERS = Resource("/users", User, new_user, "email", OF_USERS)  # the email is unique, which each update has to check
