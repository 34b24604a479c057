"""Puts a real catalogue into a running service and takes it out again, whole, in every order.

`apt-cache dumpavail | python -m bench.catalogue`: a package's name, and its installed size as the price. The service
should be empty at first. Ends with 1 if an entry is missing, changed, there twice, or out of its place.
"""

import argparse
import http.client
import re
import sys
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

import msgspec

from bench.responses import Item, WrongResponseError, decoded, expect

BATCH_SIZE = 1000
ORDERS = ("id", "name", "price", "created_at")
RESPONSE_SECONDS_MAX = 30


class Entry(NamedTuple):
    """A package of the index."""

    name: str
    price: float


def main() -> int:
    """Write everything, walk it eight times, and report how long each took."""
    parser = argparse.ArgumentParser(description="apt-cache dumpavail | python -m bench.catalogue")
    parser.add_argument("--host", default="http://127.0.0.1:8000", help="the service's address")
    base = urlsplit(parser.parse_args().host)
    entries = list(parsed(sys.stdin))
    connection = http.client.HTTPConnection(base.hostname or "", base.port, timeout=RESPONSE_SECONDS_MAX)
    try:
        expect(entries, "there is no package on standard input")
        started = time.perf_counter()
        written = write(connection, entries)
        report(f"wrote {len(written)} entries in batches of {BATCH_SIZE}", started)
        for order in [sign + field for field in ORDERS for sign in ("", "-")]:
            started = time.perf_counter()
            walked = walk(connection, base, order)
            expected = in_order(written, order)
            expect(walked == expected, f"order {order}: {len(walked)} entries, not those that were written, in order")
            report(f"read {len(walked)} entries back by {order}", started)
    except WrongResponseError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        connection.close()
    return 0


def parsed(lines: Iterable[str]) -> Iterator[Entry]:
    """Read Debian's package index: one stanza for each package."""
    name = ""
    for line in lines:
        if line.startswith("Package: "):
            name = line.removeprefix("Package: ").strip()
        elif line.startswith("Installed-Size: "):
            yield Entry(name, float(line.removeprefix("Installed-Size: ")))


def write(connection: http.client.HTTPConnection, entries: list[Entry]) -> list[Item]:
    """Create the entries in batches, and return the items of the responses."""
    written: list[Item] = []
    for start in range(0, len(entries), BATCH_SIZE):
        sent = entries[start : start + BATCH_SIZE]
        body = msgspec.json.encode([entry._asdict() for entry in sent])
        connection.request("POST", "/items", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        created = decoded(response.read(), list[Item])
        expect(response.status == http.client.CREATED, f"the response to a batch is {response.status}")
        expect([Entry(item.name, item.price) for item in created] == sent, "the response to a batch has other entries")
        written += created
    return written


def walk(connection: http.client.HTTPConnection, base: SplitResult, order: str) -> list[Item]:
    """Follow the next links from the first page to the last."""
    items: list[Item] = []
    following = f"/items?order={order}&limit={BATCH_SIZE}"
    while following:
        connection.request("GET", following, headers={"Host": base.netloc})
        response = connection.getresponse()
        page = decoded(response.read(), list[Item])
        expect(response.status == http.client.OK, f"{following}: the response is {response.status}")
        items += page
        link = re.fullmatch('<(.*)>; rel="next"', response.headers["Link"] or "")
        following = link[1] if link else ""
    return items


def in_order(items: list[Item], order: str) -> list[Item]:
    """Sort as the service promises to: by the field, then by the id; names by code point."""
    field = order.removeprefix("-")
    return sorted(items, key=lambda item: (getattr(item, field), item.id), reverse=order.startswith("-"))


def report(done: str, started: float) -> None:
    """Print what was done, and how long it took."""
    sys.stdout.write(f"{done}: {time.perf_counter() - started:.2f} s\n")


if __name__ == "__main__":
    sys.exit(main())
