"""Is a contestant right? Asked before its speed is of interest: a fast wrong response is none."""

import random
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

from msgspec import structs

from bench.client import Client, Target
from bench.responses import Item, decoded, expect
from bench.rows import values
from bench.workloads import BATCH_SIZE

# Frameworks differ in which of the two means that a body is well formed and wrong.
REFUSALS = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
CLIENTS = 16
QUESTIONS_EACH = 12


def check_responses(target: Target, rows: int, *, leaves_out: Collection[str] = ()) -> None:
    """Ask every kind of question that a contestant takes, alone and many at once; raises WrongResponseError."""
    with Client(target) as client:
        for workload, check in CHECKS:
            if workload not in leaves_out:
                check(client, rows)
    with ThreadPoolExecutor(CLIENTS) as pool:
        for result in [pool.submit(_asks_beside_others, target, rows, seed) for seed in range(CLIENTS)]:
            result.result()


def check_forms(target: Target) -> None:
    """Check only that responses have the right form, of a contestant that stores nothing."""
    with Client(target) as client:
        _item(client, "GET", "/items/1")
        _item(client, "POST", "/items", {"name": "anything", "price": 1.0}, status=HTTPStatus.CREATED)
        page = decoded(_content(client, HTTPStatus.OK, "GET", f"/items?limit={BATCH_SIZE}"), list[Item])
        expect(len(page) == BATCH_SIZE, f"a list of {len(page)}")


def check_page(client: Client, path: str, ids: list[int]) -> None:
    """Check that a page has these rows of the table, in this order; raises WrongResponseError."""
    page = decoded(_content(client, HTTPStatus.OK, "GET", path), list[Item])
    expect([item.id for item in page] == ids, f"GET {path} returned the ids {[item.id for item in page]}, not {ids}")
    for item in page:
        _expect_seeded(item, item.id)


def _reads(client: Client, rows: int) -> None:
    for number in (1, rows // 2, rows):
        _expect_seeded(_item(client, "GET", f"/items/{number}"), number)
    _content(client, HTTPStatus.NOT_FOUND, "GET", f"/items/{2**40}")


def _creates(client: Client, _rows: int) -> None:
    sent = {"name": 'Ünïcode "quoted"', "price": 12.34, "in_stock": False}
    created = _item(client, "POST", "/items", sent, status=HTTPStatus.CREATED)
    _expect(created, {**sent, "version": 1}, f"POST of {sent}")
    _expect(_item(client, "GET", f"/items/{created.id}"), structs.asdict(created), "GET after POST")


def _lists(client: Client, rows: int) -> None:
    check_page(client, f"/items?limit={BATCH_SIZE}", [*range(1, min(rows, BATCH_SIZE) + 1)])


def _reads_batches(client: Client, rows: int) -> None:
    wanted = [rows, 1, rows // 2]
    items = decoded(_content(client, HTTPStatus.OK, "GET", f"/items?ids={','.join(map(str, wanted))}"), list[Item])
    expect([item.id for item in items] == wanted, f"the ids {wanted} returned {[item.id for item in items]}")
    for item in items:
        _expect_seeded(item, item.id)


def _creates_batches(client: Client, _rows: int) -> None:
    sent = [{"name": f"of a batch {number}", "price": number / 4, "in_stock": True} for number in range(BATCH_SIZE)]
    created = decoded(_content(client, HTTPStatus.CREATED, "POST", "/items", sent), list[Item])
    expect(len(created) == len(sent), f"POST of {len(sent)} items returned {len(created)}")
    for item, given in zip(created, sent, strict=True):
        _expect(item, {**given, "version": 1}, f"POST of {given} in a batch")
        _expect(_item(client, "GET", f"/items/{item.id}"), structs.asdict(item), "GET after POST of a batch")


def _replaces(client: Client, rows: int) -> None:
    before = _item(client, "GET", f"/items/{rows}")
    # The row keeps the values it was seeded with, so that the other checks still hold.
    sent = {"name": before.name, "price": before.price, "in_stock": before.in_stock}
    after = _item(client, "PUT", f"/items/{rows}", sent)
    _expect(after, {**sent, "id": rows, "version": before.version + 1, "created_at": before.created_at}, "PUT")
    _expect(_item(client, "GET", f"/items/{rows}"), structs.asdict(after), "GET after PUT")


def _refuses(client: Client, _rows: int) -> None:
    for wrong in ({"name": "no price"}, {"name": "", "price": 1.0}, {"name": "debt", "price": -1.0}):
        status, _ = client.ask("POST", "/items", wrong)
        expect(status in REFUSALS, f"POST of {wrong} returned {status}")


def _asks_beside_others(target: Target, rows: int, seed: int) -> None:
    chooser = random.Random(seed)  # noqa: S311 - the same questions for every contestant
    with Client(target) as client:
        for question in range(QUESTIONS_EACH):
            number = chooser.randint(1, rows)
            _expect_seeded(_item(client, "GET", f"/items/{number}"), number)
            sent = {"name": f"client-{seed}-{question}", "price": float(question), "in_stock": True}
            created = _item(client, "POST", "/items", sent, status=HTTPStatus.CREATED)
            _expect(created, {**sent, "version": 1}, f"POST of {sent}")


def _item(client: Client, method: str, path: str, body: object = None, *, status: int = HTTPStatus.OK) -> Item:
    return decoded(_content(client, status, method, path, body), Item)


def _content(client: Client, status: int, method: str, path: str, body: object = None) -> bytes:
    got, content = client.ask(method, path, body)
    expect(got == status, f"{method} {path} returned {got} {content[:500]!r}, not {status:d}")
    return content


def _expect_seeded(item: Item, number: int) -> None:
    _expect(item, values(number), f"GET /items/{number}")


def _expect(item: Item, values: dict[str, Any], question: str) -> None:
    got = structs.asdict(item)
    expect(got | values == got, f"{question} returned {got}, not {values}")


CHECKS: list[tuple[str, Callable[[Client, int], None]]] = [
    ("get", _reads),
    ("post", _creates),
    ("list", _lists),
    ("put", _replaces),
    ("read-batch", _reads_batches),
    ("write-batch", _creates_batches),
    ("post", _refuses),
]
