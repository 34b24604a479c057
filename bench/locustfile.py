"""Load for a running service: `locust -f bench/locustfile.py Mixed --headless -u 50 -t 30s`.

Users ask without a pause, and every response is checked: its status, shape, values and order, and that it is not older
than what the service has acknowledged before. With `--processes` or workers each process makes rows of its own and is
the only one to change them, so what it remembers of them is the truth. `Mixed` asks for items, `MixedUsers` for users.

A service whose callers need a token gets an admin's by `--token`, or by ITEMS_TOKEN in the environment.

One process makes some thousands of requests in a second. `--processes 2` runs two on this machine, `-1` one for each
core; `--master` here and `--worker --master-host=NAME` elsewhere spread them over several. With bench/shape.py the
number of users rises and falls.
"""

import logging
import random
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from locust import FastHttpUser, TaskSet, constant, events
from locust.argument_parser import LocustArgumentParser
from locust.contrib.fasthttp import FastHttpSession, ResponseContextManager
from locust.env import Environment
from locust.event import EventHook
from locust.exception import StopTest
from locust.runners import MasterRunner, WorkerRunner
from msgspec import Struct

from bench.listings import PAGE, check_page
from bench.resources import ITEMS, USERS, Resource
from bench.responses import Row, WrongResponseError, decoded, expect

HOST = "http://127.0.0.1:8000"
ROWS_PER_PROCESS = 1000

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
rows: dict[str, dict[int, Any]] = {}
"""This process's rows by path and id, each as it was when last acknowledged."""
ids: dict[str, list[int]] = {}


def remember(resource: Resource[Any], row: Row, before: Row) -> None:
    """Compare a response with what was known when the question left, and keep the newer."""
    expect(row.id == before.id, "another row than the one asked for")
    expect(resource.is_later(row, before), "a field changed that nobody changed")
    expect(row.created_at.tzinfo and row.updated_at.tzinfo, "a timestamp without its time zone")
    expect(row.version >= before.version, "older than what was acknowledged before")
    expect(row.version > before.version or row == before, "another content under the same version")
    if row.version > rows[resource.path][row.id].version:
        rows[resource.path][row.id] = row


def profile(weights: dict[Task, int]) -> list[Task]:
    """Turn weights into the list that locust draws from."""
    return [kind for kind, weight in weights.items() for _ in range(weight)]


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_token(parser: LocustArgumentParser) -> None:
    """Add the option for a service whose callers need a token."""
    parser.add_argument("--token", env_var="ITEMS_TOKEN", default="", is_secret=True, help="sent with every request")


def headers(environment: Environment) -> dict[str, str]:
    """Return the headers that every request has."""
    token = environment.parsed_options.token if environment.parsed_options else ""
    return {"Authorization": f"Bearer {token}"} if token else {}


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def make_rows(environment: Environment, **_: object) -> None:
    """Make this process's rows with a request for each resource, which is no part of the statistics."""
    if isinstance(environment.runner, MasterRunner):
        return
    chance.seed()  # forked processes must not ask the same questions
    session = FastHttpSession(environment.host or HOST, EventHook(), None)  # type: ignore[no-untyped-call]
    for resource in {one.resource for one in environment.user_classes if issubclass(one, ResourceUser)}:
        new = [resource.new(chance) for _ in range(ROWS_PER_PROCESS)]
        response = session.post(resource.path, json=new, headers=headers(environment))
        if response.status_code != HTTPStatus.CREATED:
            said = f"status {response.status_code} {response.text}" if response.status_code else "it cannot be reached"
            logger.error("no %s could be made at %s: %s", resource.path, environment.host or HOST, said)
            environment.process_exit_code = 1
            raise StopTest
        rows[resource.path] = {row.id: row for row in resource.rows(response.content)}
        ids[resource.path] = list(rows[resource.path])


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def refuse_silence(environment: Environment, **_: object) -> None:
    """Fail a run that asked nothing, as when its workers found no service."""
    if isinstance(environment.runner, WorkerRunner):
        return  # it has handed its figures on by now
    if environment.process_exit_code is None and not environment.stats.total.num_requests:
        environment.process_exit_code = 1


class ResourceUser(FastHttpUser):
    """Knows every kind of request for one resource; `tasks` lists those it makes."""

    abstract = True
    host = HOST
    wait_time = constant(0)
    resource: Resource[Any] = ITEMS

    def read(self) -> None:
        """Read one row."""
        resource, known = self.resource, self.choose()

        def check(response: ResponseContextManager) -> None:
            remember(resource, decoded(response.content, resource.shape), known)

        self.ask(Question("GET", f"{resource.path}/{known.id}", f"{resource.path}/[id]"), check)

    def create(self) -> None:
        """Create one row."""
        resource = self.resource
        sent = resource.new(chance)

        def check(response: ResponseContextManager) -> None:
            row = decoded(response.content, resource.shape)
            expect({name: getattr(row, name) for name in sent} == sent, "other values than those sent")
            expect(row.version == 1, "a new row is not at version 1")
            location = response.headers and response.headers.get("location")
            expect(str(location).endswith(f"{resource.path}/{row.id}".lstrip("/")), "Location is not where the row is")

        self.ask(Question("POST", resource.path, resource.path, sent, HTTPStatus.CREATED), check)

    def change(self) -> None:
        """Change one field of one row."""
        resource, known = self.resource, self.choose()
        patch = resource.patch(chance)

        def check(response: ResponseContextManager) -> None:
            row = decoded(response.content, resource.shape)
            expect({name: getattr(row, name) for name in patch} == patch, "the change is not in the response")
            expect(row.version > known.version, "the version did not rise")
            remember(resource, row, known)

        self.ask(Question("PATCH", f"{resource.path}/{known.id}", f"{resource.path}/[id]", patch), check)

    def read_page(self) -> None:
        """Read one page of one of the listings."""
        resource = self.resource
        listing = chance.choice(resource.listings)

        def check(response: ResponseContextManager) -> None:
            check_page(resource.rows(response.content), listing)

        path = f"{resource.path}?limit={PAGE}{listing.query}"
        self.ask(Question("GET", path, path), check)

    def choose(self) -> Any:
        """Choose one of this process's rows."""
        path = self.resource.path
        return rows[path][chance.choice(ids[path])]

    def ask(self, question: Question, check: Callable[[ResponseContextManager], None]) -> None:
        """Send one request; locust counts it as failed when `check` complains."""
        with self.client.request(
            question.method,
            question.path,
            name=question.name,
            json=question.body,
            headers=headers(self.environment),
            catch_response=True,
        ) as response:
            if not response.status_code:
                return  # a broken connection, which locust counts and names by itself
            try:
                expect(response.status_code == question.status, f"status {response.status_code}")
                check(response)
            except WrongResponseError as error:
                response.failure(str(error))


class Reader(ResourceUser):
    """Reads items by id."""

    tasks = profile({ResourceUser.read: 1})


class Writer(ResourceUser):
    """Creates items."""

    tasks = profile({ResourceUser.create: 1})


class Lister(ResourceUser):
    """Reads pages, in every order and with every filter."""

    tasks = profile({ResourceUser.read_page: 1})


class Mixed(ResourceUser):
    """What a service's day looks like."""

    tasks = profile(
        {ResourceUser.read: 75, ResourceUser.change: 10, ResourceUser.read_page: 5, ResourceUser.create: 10}
    )


class MixedUsers(Mixed):
    """The same day of users."""

    resource = USERS
