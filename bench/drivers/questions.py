"""The workloads in Python, for locust where wrk is not there: `drivers/locust.py` runs this file."""

import os
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Timer
from typing import Any

import msgspec
from locust import FastHttpUser, constant, events, task
from locust.env import Environment

Question = tuple[str, str, object]

BATCH_SIZE = 100

HEADERS = msgspec.json.decode(os.environ.get("BENCH_HEADERS", "{}"), type=dict[str, str])

chance = random.Random(int(os.environ.get("BENCH_SEED", "1")))  # noqa: S311 - it chooses load, it keeps no secret


@events.init.add_listener  # type: ignore[untyped-decorator] # locust has no types for it
def end_after_seconds(environment: Environment, **_: object) -> None:
    """End the run BENCH_SECONDS after all users are there."""

    def spawned(**_: object) -> None:
        assert environment.runner is not None  # noqa: S101 - narrows the type
        Timer(float(os.environ["BENCH_SECONDS"]), environment.runner.quit).start()

    environment.events.spawning_complete.add_listener(spawned)  # type: ignore[no-untyped-call]


def item() -> dict[str, Any]:
    """Make the body of one item."""
    number = chance.randint(1, 1000)
    return {"name": f"locust-{number}", "price": number + 0.25, "in_stock": True}


def get(rows: int) -> Question:
    """Ask for one item."""
    return "GET", f"/items/{chance.randint(1, rows)}", None


@cache
def paths() -> list[str]:
    """Read the paths that a file lists."""
    return Path(os.environ["BENCH_PATH"]).read_text(encoding="utf-8").splitlines()


def page(_rows: int) -> Question:
    """Ask for one of many pages."""
    return "GET", chance.choice(paths()), None


def path(_rows: int) -> Question:
    """Ask for one and the same path."""
    return "GET", os.environ["BENCH_PATH"], None


def read_batch(rows: int) -> Question:
    """Ask for a batch of items, spread over the rows."""
    first, stride = chance.randint(1, rows), max(1, rows // BATCH_SIZE)
    ids = ((first + member * stride) % rows + 1 for member in range(BATCH_SIZE))
    return "GET", f"/items?ids={','.join(map(str, ids))}", None


def put(rows: int) -> Question:
    """Replace one item."""
    return "PUT", f"/items/{chance.randint(1, rows)}", item()


def post(_rows: int) -> Question:
    """Create one item."""
    return "POST", "/items", item()


def write_batch(_rows: int) -> Question:
    """Create a batch of items."""
    return "POST", "/items", [item() for _ in range(BATCH_SIZE)]


def mixed(rows: int) -> Question:
    """Ask what a service is asked on a day."""
    return chance.choices((get, put, page, post), (75, 10, 5, 10))[0](rows)


QUESTIONS: dict[str, Callable[[int], Question]] = {
    "get": get,
    "path": path,
    "paths": page,
    "read-batch": read_batch,
    "put": put,
    "mixed": mixed,
    "post": post,
    "write-batch": write_batch,
}


class Asker(FastHttpUser):
    """Asks without a pause, as wrk does."""

    wait_time = constant(0)

    @task
    def ask(self) -> None:
        """Send one request."""
        script, rows = os.environ["BENCH_SCRIPT"], int(os.environ["BENCH_ROWS"])
        method, path, body = QUESTIONS[script](rows)
        self.client.request(method, path, json=body, name=script, headers=HEADERS)
