"""Items: the products of a shop, each owned by a user or by nobody."""

from db.models import Item
from db.tables.filters import at_least, at_most, equals, is_set, starts_with
from db.tables.table import Table

ITEMS = Table(
    Item,
    noun="item",
    fields=("name", "price", "in_stock", "owner_id"),
    orders=("id", "name", "price", "created_at"),
    filters={
        "in_stock": equals("in_stock"),
        "price_min": at_least("price"),
        "price_max": at_most("price"),
        "name_prefix": starts_with("name"),
        "owner_id": equals("owner_id"),
        "owned": is_set("owner_id"),
    },
    owner="owner_id",
)
