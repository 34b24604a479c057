"""What the lists are asked for, and what must hold for each of their responses."""

from collections.abc import Callable, Sequence
from typing import Any, Generic

from msgspec import Struct

from bench.responses import Item, R, User, expect

PAGE = 100
PRICE_LOW, PRICE_HIGH = 100, 900


class Listing(Struct, Generic[R], frozen=True):
    """A question to a list, the key its response is sorted by, and what holds for every member."""

    query: str
    key: Callable[[R], Any]
    descending: bool = False
    holds: Callable[[R], bool] = lambda _row: True


# Every process makes enough rows for a full page of each.
OF_ITEMS: Sequence[Listing[Item]] = (
    Listing("", lambda item: item.id),
    Listing("&order=-id", lambda item: item.id, descending=True),
    Listing("&order=name", lambda item: item.name),
    Listing("&order=-created_at", lambda item: item.created_at, descending=True),
    Listing("&in_stock=true", lambda item: item.id, holds=lambda item: item.in_stock),
    Listing("&name_prefix=load-", lambda item: item.id, holds=lambda item: item.name.startswith("load-")),
    Listing(
        f"&order=price&price_min={PRICE_LOW}&price_max={PRICE_HIGH}",
        lambda item: item.price,
        holds=lambda item: PRICE_LOW <= item.price <= PRICE_HIGH,
    ),
)
OF_USERS: Sequence[Listing[User]] = (
    Listing("", lambda user: user.id),
    Listing("&order=-id", lambda user: user.id, descending=True),
    Listing("&order=username", lambda user: user.username),
    Listing("&order=-email", lambda user: user.email, descending=True),
    Listing("&order=-created_at", lambda user: user.created_at, descending=True),
    Listing("&is_active=true", lambda user: user.id, holds=lambda user: user.is_active),
    Listing("&role=writer", lambda user: user.id, holds=lambda user: user.role == "writer"),
)


def check_page(page: Sequence[R], listing: Listing[R]) -> None:
    """Check a page of a table that has enough rows to fill it; raises WrongResponseError."""
    expect(len({row.id for row in page}) == len(page) == PAGE, "not a full page of different rows")
    expect(all(map(listing.holds, page)), "a row that the filter leaves out")
    expect(page == sorted(page, key=listing.key, reverse=listing.descending), "not in the order asked for")
