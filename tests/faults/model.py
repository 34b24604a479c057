"""Whatever is asked in whatever order, and whatever befalls the database, the service answers as a dictionary would.

Every answer is taken at its word: what was acknowledged is there; where nothing was changed, the same is asked again.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from threading import Thread, Timer
from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from service.settings import Settings
from tests.api.test_model import Model
from tests.faults.conditions import Moment
from tests.faults.cuts import MOMENTS, NOTHING_CHANGED, REPLAYED
from tests.faults.durable import durable_server
from tests.faults.proxy import Proxy
from tests.support.answers import code, serving
from tests.support.postgres import HOST, PostgresServer
from tests.support.waiting import PAUSE_S

LIMIT_S = 15.0  # beyond every deadline
BLACK_HOLE_S = 0.2
KEPT = {200, 201, 204, 404, 412}
IN_USE = "idempotency-key-in-use"


class FaultyModel(Model):
    """A service beside a dictionary, and a database that suffers."""

    proxy: Proxy
    server: PostgresServer
    keys: Iterator[int]
    counted: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.keyed = False
        self.troubles: list[Thread] = []

    def ask(self, method: str, url: str, body: object = None, **headers: str) -> httpx.Response:
        """Ask until it is answered; and once more, if there is a key, for the same answer."""
        if not self.keyed or method == "GET":
            return self.runner.run(self.served(method, url, body, headers))
        headers["idempotency-key"] = f"key-{next(self.keys)}"
        first = self.runner.run(self.served(method, url, body, headers))
        assert REPLAYED not in first.headers
        again = self.runner.run(self.served(method, url, body, headers))
        if first.status_code in KEPT:
            assert (again.status_code, again.headers.get(REPLAYED)) == (first.status_code, "true")
            assert first.is_error or again.content == first.content
        return first

    async def served(self, method: str, url: str, body: object, headers: dict[str, str]) -> httpx.Response:
        """Ask until it is answered: it must not hang, nor fail, nor leave us in doubt."""
        sent = {} if body is None else {"json": body}
        async with asyncio.timeout(LIMIT_S):
            while True:
                response = await self.client.request(method, url, headers=headers, **sent)  # type: ignore[arg-type]
                self.counted["answers"] += 1
                if response.status_code < 500 and IN_USE not in response.text:
                    return response
                assert code(response)[1] in NOTHING_CHANGED
                self.counted[code(response)[1]] += 1
                await asyncio.sleep(PAUSE_S)

    @rule(keyed=st.booleans())
    def use_keys(self, keyed: bool) -> None:
        self.keyed = keyed

    @rule(moment=st.sampled_from(MOMENTS), times=st.integers(1, 2))
    def cut(self, moment: Moment, times: int) -> None:
        self.proxy.cut(moment, times, matching="items|commit_records")

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
        """Let something happen while others go on asking."""
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
        ids = [item["id"] for item in self.ask("GET", "/items?limit=1000").json()]  # also of what should not be there
        if ids:
            self.ask("DELETE", f"/items?ids={','.join(map(str, ids))}")


@contextmanager
def machine() -> Iterator[type[FaultyModel]]:
    """Return a model of a service on a database of its own."""
    with durable_server() as server, Proxy(HOST, server.port) as proxy, asyncio.Runner() as runner:
        service = serving(Settings(database_url=proxy.url(server.url())))
        around: dict[str, Any] = {"runner": runner, "proxy": proxy, "server": server}
        try:
            around |= {"client": runner.run(service.__aenter__()), "keys": count(), "counted": Counter()}
            yield type("Machine", (FaultyModel,), around)
        finally:
            proxy.clear()
            runner.run(service.__aexit__(None, None, None))


def try_model(examples: int, steps: int = 15) -> dict[str, Any]:
    """Ask in so many orders."""
    with machine() as tried:
        run_state_machine_as_test(
            tried,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                derandomize=True,
                phases=[Phase.generate],  # faults take their time, too much of it to look for the shortest example
                suppress_health_check=list(HealthCheck),
            ),
        )
        return {"examples": examples, "cuts": len(tried.proxy.cuts), **tried.counted, "wrong": 0}
