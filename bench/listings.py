"""What the list is asked for, and what must hold for each of its responses."""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from bench.responses import Item, expect

PAGE = 100
PRICE_LOW, PRICE_HIGH = 100, 900


class Listing(Struct, frozen=True):
    """A question to the list, the key its response is sorted by, and what holds for every member."""

    query: str
    key: Callable[[Item], Any]
    descending: bool = False
    holds: Callable[[Item], bool] = lambda _item: True


# Every process makes enough items for a full page of each.
LISTINGS = [
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
]


def check_page(page: Sequence[Item], listing: Listing) -> None:
    """Check a page of a table that has enough items to fill it; raises WrongResponseError."""
    expect(len({item.id for item in page}) == len(page) == PAGE, "not a full page of different items")
    expect(all(map(listing.holds, page)), "an item that the filter leaves out")
    expect(page == sorted(page, key=listing.key, reverse=listing.descending), "not in the order asked for")
