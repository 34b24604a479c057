"""Whatever is asked in whatever order, and whatever befalls the database, the service responds as a dictionary would.

Every response is taken at its word: what was acknowledged is there; where nothing was changed, the same is asked again.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from threading import Thread, Timer
from typing import Any

import httpx
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from service.settings import Settings
from tests.api.model import SETTINGS, Model
from tests.api.test_model import ItemModel
from tests.api.test_users_model import UserModel
from tests.faults.conditions import CommitPhase
from tests.faults.cuts import NOTHING_CHANGED, PHASES, REPLAYED
from tests.faults.durable import durable_server
from tests.faults.proxy import Proxy
from tests.faults.resources import RESOURCES
from tests.support.postgres import HOST, PostgresServer
from tests.support.responses import code, serving
from tests.support.waiting import PAUSE_S

LIMIT_S = 15.0  # beyond every deadline
BLACK_HOLE_S = 0.2
STORED = {200, 201, 204, 404, 409, 412}  # for repeats under the same key
IN_USE = "idempotency-key-in-use"
TABLES = "|".join([resource.collection.table.name for resource in RESOURCES])


class FaultyModel(Model):
    """A resource of a service beside a dictionary, and a database to which faults happen."""

    proxy: Proxy
    server: PostgresServer
    keys: Iterator[int]
    counted: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.keyed = False
        self.troubles: list[Thread] = []

    def ask(self, method: str, url: str, body: object = None, **headers: str) -> httpx.Response:
        """Return the response that is not to be repeated; with a key, once that is the response to a repeat, too."""
        if not self.keyed or method == "GET":
            return self.runner.run(self.served(method, url, body, headers))
        headers["idempotency-key"] = f"key-{next(self.keys)}"
        first = self.runner.run(self.served(method, url, body, headers))
        assert REPLAYED not in first.headers
        again = self.runner.run(self.served(method, url, body, headers))
        if first.status_code in STORED:
            assert (again.status_code, again.headers.get(REPLAYED)) == (first.status_code, "true")
            assert first.is_error or again.content == first.content
        return first

    async def served(self, method: str, url: str, body: object, headers: dict[str, str]) -> httpx.Response:
        """Repeat a request while nothing was changed: it must not hang, nor fail, nor have an unknown outcome."""
        sent = {} if body is None else {"json": body}
        async with asyncio.timeout(LIMIT_S):
            while True:
                response = await self.client.request(method, url, headers=headers, **sent)  # type: ignore[arg-type]
                self.counted["responses"] += 1
                if response.status_code < 500 and IN_USE not in response.text:
                    return response
                assert code(response)[1] in NOTHING_CHANGED
                self.counted[code(response)[1]] += 1
                await asyncio.sleep(PAUSE_S)

    @initialize(keyed=st.booleans())
    def start(self, keyed: bool) -> None:
        self.keyed = keyed

    @rule(keyed=st.booleans())
    def use_keys(self, keyed: bool) -> None:
        self.keyed = keyed

    @rule(phase=st.sampled_from(PHASES), times=st.integers(1, 2))
    def cut(self, phase: CommitPhase, times: int) -> None:
        self.proxy.cut(phase, times, matching=f"{TABLES}|commit_records")

    @rule()
    def reset(self) -> None:
        self.counted["resets"] += 1
        self.proxy.reset_all()

    @rule(resuming=st.booleans())
    def swallow(self, resuming: bool) -> None:
        self.counted["black holes"] += 1
        self.proxy.set(black_hole=True, resuming=resuming)
        self.meanwhile(Timer(BLACK_HOLE_S, lambda: self.proxy.set(black_hole=False)))

    @rule()
    def restart(self) -> None:
        self.join()
        self.counted["restarts"] += 1
        self.server.stop("immediate")
        self.meanwhile(Thread(target=self.server.start))

    def meanwhile(self, trouble: Thread) -> None:
        """Let something happen while requests go on."""
        trouble.start()
        self.troubles.append(trouble)

    def join(self) -> None:
        """Wait for the end of what happens."""
        while self.troubles:
            self.troubles.pop().join(LIMIT_S)

    def teardown(self) -> None:
        self.join()
        self.proxy.clear()
        self.keyed = False
        ids = [
            row["id"] for row in self.ask("GET", f"{self.path}?limit=1000").json()
        ]  # also of what should not be there
        if ids:
            self.ask("DELETE", self.ids_url(ids))


class FaultyItems(FaultyModel, ItemModel):
    """Items beside a dictionary."""


class FaultyUsers(FaultyModel, UserModel):
    """Users beside a dictionary."""


@contextmanager
def surroundings() -> Iterator[dict[str, Any]]:
    """Return what models share: a service on a database of its own, and what makes the faults."""
    with durable_server() as server, Proxy(HOST, server.port) as proxy, asyncio.Runner() as runner:
        service = serving(Settings(database_url=proxy.url(server.url())))
        shared = {"runner": runner, "proxy": proxy, "server": server, "keys": count(), "counted": Counter[str]()}
        client = runner.run(service.__aenter__())
        try:
            yield {**shared, "client": client}
        finally:
            proxy.clear()
            runner.run(service.__aexit__(None, None, None))


def try_model(examples: int, steps: int = 15) -> dict[str, Any]:
    """Ask in so many orders, for each resource."""
    with surroundings() as shared:
        for model in (FaultyItems, FaultyUsers):
            run_state_machine_as_test(
                type("Machine", (model,), shared),
                settings=settings(SETTINGS, max_examples=examples, stateful_step_count=steps),
            )
        counts = {"cuts": len(shared["proxy"].cuts), **shared["counted"]}
        return {"examples": examples, "resources": len(RESOURCES), **counts, "wrong": 0}
