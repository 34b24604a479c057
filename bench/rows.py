"""The rows that the table is filled with, in SQL and in Python: who knows an id knows its row."""

from typing import Any

# Prices are the ids shuffled, so that neighbours by price lie far apart in the table, as rows of different days do. No
# two of the first million rows have the same price: the modulus is a prime above it.
SHUFFLE, PRICES = 7919, 1_000_003

# One statement for both databases; ids come from the identity and start at 1, and no two rows share a timestamp.
SEED = """
INSERT INTO items (name, price, in_stock, created_at, updated_at)
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {rows}),
rows(n, created_at) AS (SELECT n, {timestamp} FROM numbers)
SELECT 'item-' || n, CAST(n AS BIGINT) * {shuffle} % {prices} / 4.0, n % 3 <> 0, created_at, created_at
FROM rows ORDER BY n
"""


def seed(rows: int, timestamp: str) -> str:
    """Return the statement that fills an empty table.

    `timestamp` is the database's expression for about the nth second, with a fraction, as a clock has it: what the
    contestants write for it is shorter without.
    """
    return SEED.format(rows=rows, timestamp=timestamp, shuffle=SHUFFLE, prices=PRICES)


def name(id: int) -> str:
    """Return the name of a row."""
    return f"item-{id}"


def price(id: int) -> float:
    """Return the price of a row."""
    return id * SHUFFLE % PRICES / 4


def values(id: int) -> dict[str, Any]:
    """Return all that is the same in every table that was filled, and nobody has changed."""
    return {"id": id, "name": name(id), "price": price(id), "in_stock": id % 3 != 0, "owner_id": None}
