"""Pages that differ: which there are, how each contestant is asked for them, and whether it gives the right ones.

A page follows a row in an order. Most contestants are given that row's values; this service gives out cursors, which
are collected from its `Link` headers before anybody is measured.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

from bench.checks import check_page
from bench.client import Client, Target
from bench.database import Database, columns
from bench.responses import expect
from bench.rows import name, price
from bench.workloads import BATCH_SIZE

Starts = Mapping[str, Sequence[int]]
"""For each order, the ids of the rows before the pages, as they lie in it, so many places apart."""
Paths = Mapping[str, Sequence[str]]
"""For each order, the paths of these pages."""

CHECKED = 10
"""How many pages of each order are compared with the table."""

# The truth: SQL by hand, of the database itself.
ORDERS = {"id": "id", "price": "price, id", "name": "name, id"}
EVERY = """
SELECT id FROM (SELECT id, row_number() OVER (ORDER BY {order}) AS place FROM items) AS placed
WHERE place % {step} = 0 AND place <= {last} ORDER BY place
"""
AFTER = (
    "SELECT id FROM items WHERE ({order}) > (SELECT {order} FROM items WHERE id = {id}) ORDER BY {order} LIMIT {count}"
)


def choose(database: Database, rows: int, pages: int) -> Starts:
    """Choose about so many full pages of each order, spread evenly over it; raises WrongResponseError without any."""
    step, last = spacing(rows, pages), rows - BATCH_SIZE
    expect(last >= step, f"a table of {rows} rows has no pages to choose from")
    found = columns(database.url, *(EVERY.format(order=order, step=step, last=last) for order in ORDERS.values()))
    return dict(zip(ORDERS, found, strict=True))


def spacing(rows: int, pages: int) -> int:
    """Return how many places lie between the pages that are chosen."""
    return max(1, rows // pages)


def by_values(_target: Target, starts: Starts, _step: int) -> Paths:
    """Return the paths for those who take the values of the row before a page."""
    value: dict[str, Callable[[int], str]] = {
        "id": lambda _id: "",
        "price": lambda id: f"&after_price={price(id)}",
        "name": lambda id: f"&after_name={name(id)}",
    }
    return {order: [f"{_list(order)}{value[order](id)}&after_id={id}" for id in ids] for order, ids in starts.items()}


def by_cursors(target: Target, starts: Starts, step: int) -> Paths:
    """Return the paths for this service: a walk through each order brings the cursors; raises WrongResponseError."""

    def walk(order: str) -> list[str]:
        paths, after = [], ""
        with Client(target) as client:
            for id in starts[order]:
                # The row itself, as a page of one: what comes next is the page after it.
                rows, following = client.page(f"/items?order={order}&limit=1&offset={step - 1}{after}")
                expect([row.id for row in rows] == [id], f"by {order}, {rows} stands where row {id} should")
                after = "&after=" + "".join(parse_qs(urlsplit(following).query)["after"])
                paths.append(_list(order) + after)
        return paths

    with ThreadPoolExecutor(len(starts)) as pool:
        return dict(zip(starts, pool.map(walk, starts), strict=True))


def check_pages(database: Database, target: Target, starts: Starts, paths: Paths) -> None:
    """Compare some pages of each order with the table, row by row; raises WrongResponseError."""
    for order, ids in starts.items():
        some = slice(None, None, max(1, len(ids) // CHECKED))
        statements = [AFTER.format(order=ORDERS[order], id=id, count=BATCH_SIZE) for id in ids[some]]
        with Client(target) as client:
            for path, expected in zip(paths[order][some], columns(database.url, *statements), strict=True):
                check_page(client, path, expected)


def _list(order: str) -> str:
    return f"/items?limit={BATCH_SIZE}&order={order}"
