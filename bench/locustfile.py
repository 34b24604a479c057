"""Load for a running service: `locust -f bench/locustfile.py Mixed --headless -u 50 -t 30s`.

Users ask without a pause, and every response is checked: its status, shape, values and order, and that it is not older
than what the service has acknowledged before. With `--processes` or workers each process makes items of its own and is
the only one to change them, so what it remembers of them is the truth.

One process makes some thousands of requests in a second. `--processes 2` runs two on this machine, `-1` one for each
core; `--master` here and `--worker --master-host=NAME` elsewhere spread them over several. With bench/shape.py the
number of users rises and falls.
"""

import logging
import random
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from locust import FastHttpUser, TaskSet, constant, events
from locust.contrib.fasthttp import FastHttpSession, ResponseContextManager
from locust.env import Environment
from locust.event import EventHook
from locust.exception import StopTest
from locust.runners import MasterRunner, WorkerRunner
from msgspec import Struct

from bench.listings import LISTINGS, PAGE, check_page
from bench.responses import Item, WrongResponseError, decoded, expect

HOST = "http://127.0.0.1:8000"
ITEMS_PER_PROCESS = 1000
PRICE_MAX = 1000

logger = logging.getLogger(__name__)

Task = TaskSet | Callable[..., Any]


class Question(Struct, frozen=True):
    """One request, the name it is counted under, and the status of a good response."""

    method: str
    path: str
    name: str
    body: object = None
    status: int = HTTPStatus.OK


chance = random.Random()  # noqa: S311 - it chooses load, it keeps no secret
items: dict[int, Item] = {}
"""This process's items, each as it was when last acknowledged."""
ids: list[int] = []


def new_price() -> float:
    """Choose a price in whole cents."""
    return chance.randrange(PRICE_MAX * 100) / 100


def new_item() -> dict[str, Any]:
    """Make the body of an item that nobody has made before."""
    return {"name": f"load-{uuid4().hex}", "price": new_price(), "in_stock": chance.choice((True, False))}


def remember(item: Item, before: Item) -> None:
    """Compare a response with what was known when the question left, and keep the newer."""
    expect(item.id == before.id, "another item than the one asked for")
    expect((item.name, item.created_at) == (before.name, before.created_at), "a field changed that nobody changed")
    expect(item.created_at.tzinfo and item.updated_at.tzinfo, "a timestamp without its time zone")
    expect(item.version >= before.version, "older than what was acknowledged before")
    expect(item.version > before.version or item == before, "another content under the same version")
    if item.version > items[item.id].version:
        items[item.id] = item


def profile(weights: dict[Task, int]) -> list[Task]:
    """Turn weights into the list that locust draws from."""
    return [kind for kind, weight in weights.items() for _ in range(weight)]


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def make_items(environment: Environment, **_: object) -> None:
    """Make this process's items with one request, which is no part of the statistics."""
    if isinstance(environment.runner, MasterRunner):
        return
    chance.seed()  # forked processes must not ask the same questions
    session = FastHttpSession(environment.host or HOST, EventHook(), None)  # type: ignore[no-untyped-call]
    response = session.post("/items", json=[new_item() for _ in range(ITEMS_PER_PROCESS)])
    if response.status_code != HTTPStatus.CREATED:
        logger.error("no items could be made: status %s %s", response.status_code, response.text)
        environment.process_exit_code = 1
        raise StopTest
    made = decoded(response.content, list[Item])
    items.clear()
    items.update((item.id, item) for item in made)
    ids[:] = items


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def refuse_silence(environment: Environment, **_: object) -> None:
    """Fail a run that asked nothing, as when its workers found no service."""
    if isinstance(environment.runner, WorkerRunner):
        return  # it has handed its figures on by now
    if environment.process_exit_code is None and not environment.stats.total.num_requests:
        environment.process_exit_code = 1


class ItemUser(FastHttpUser):
    """Knows every kind of request; `tasks` lists those it makes."""

    abstract = True
    host = HOST
    wait_time = constant(0)

    def read(self) -> None:
        """Read one item."""
        known = items[chance.choice(ids)]

        def check(response: ResponseContextManager) -> None:
            remember(decoded(response.content, Item), known)

        self.ask(Question("GET", f"/items/{known.id}", "/items/[id]"), check)

    def create(self) -> None:
        """Create one item."""
        sent = new_item()

        def check(response: ResponseContextManager) -> None:
            item = decoded(response.content, Item)
            expect({name: getattr(item, name) for name in sent} == sent, "other values than those sent")
            expect(item.version == 1, "a new item is not at version 1")
            location = response.headers and response.headers.get("location")
            expect(str(location).endswith(f"/items/{item.id}"), "Location is not where the item is")

        self.ask(Question("POST", "/items", "/items", sent, HTTPStatus.CREATED), check)

    def change(self) -> None:
        """Change one item's price."""
        known, price = items[chance.choice(ids)], new_price()

        def check(response: ResponseContextManager) -> None:
            item = decoded(response.content, Item)
            expect(item.price == price, "the change is not in the response")
            expect(item.version > known.version, "the version did not rise")
            remember(item, known)

        self.ask(Question("PATCH", f"/items/{known.id}", "/items/[id]", {"price": price}), check)

    def read_page(self) -> None:
        """Read one page of one of the listings."""
        listing = chance.choice(LISTINGS)

        def check(response: ResponseContextManager) -> None:
            check_page(decoded(response.content, list[Item]), listing)

        path = f"/items?limit={PAGE}{listing.query}"
        self.ask(Question("GET", path, path), check)

    def ask(self, question: Question, check: Callable[[ResponseContextManager], None]) -> None:
        """Send one request; locust counts it as failed when `check` complains."""
        with self.client.request(
            question.method, question.path, name=question.name, json=question.body, catch_response=True
        ) as response:
            if not response.status_code:
                return  # a broken connection, which locust counts and names by itself
            try:
                expect(response.status_code == question.status, f"status {response.status_code}")
                check(response)
            except WrongResponseError as error:
                response.failure(str(error))


class Reader(ItemUser):
    """Reads items by id."""

    tasks = profile({ItemUser.read: 1})


class Writer(ItemUser):
    """Creates items."""

    tasks = profile({ItemUser.create: 1})


class Lister(ItemUser):
    """Reads pages, in every order and with every filter."""

    tasks = profile({ItemUser.read_page: 1})


class Mixed(ItemUser):
    """What a service's day looks like."""

    tasks = profile({ItemUser.read: 75, ItemUser.change: 10, ItemUser.read_page: 5, ItemUser.create: 10})
