"""Connections cut around a commit: whatever the moment, the answer is what the database has."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count, cycle, product
from secrets import token_hex
from typing import Any, NamedTuple, Self, get_args

import asyncpg
import httpx
from sqlalchemy import make_url

from service.settings import Settings
from tests.faults.conditions import Moment
from tests.faults.proxy import Proxy
from tests.support.answers import serving
from tests.support.waiting import PAUSE_S, until

MOMENTS: Sequence[Moment] = get_args(Moment)
KEYED = (False, True)
SET_SIZE = 3
CALLERS = 16
LIMIT_S = 15.0  # beyond every deadline
MOMENT_S = 0.3
DEADLINE_S = 0.5
NOTHING_CHANGED = {"unavailable", "overloaded", "timeout", "idempotency-key-in-use"}
UNKNOWN = "commit-outcome-unknown"
REPLAYED = "idempotency-replayed"
REPEATS = "repeats"
# Of those that the service has: none of them does anything any more.
BUSY = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'items-service' AND state <> 'idle'"
SIZES = "SELECT max(cardinality(ids)) FROM commit_records"
WAITING = "SELECT 1 FROM pg_locks WHERE NOT granted"


class Row(NamedTuple):
    """What an item is, beside its name; one that is yet to be made has no id."""

    id: int | None
    price: float
    version: int


Rows = dict[str, Row]  # by name, which no two have


class Kind(NamedTuple):
    """A kind of write."""

    method: str
    size: int | None = None  # of its set

    def __str__(self) -> str:
        return f"{self.method} of {'one' if self.size is None else 'a set'}"

    @property
    def statement(self) -> str:
        """Tell its statement from others."""
        return {"POST": "INSERT INTO items", "PATCH": "UPDATE items", "DELETE": "DELETE FROM items"}[self.method]


POST, PATCH, DELETE = ONES = [Kind(method) for method in ("POST", "PATCH", "DELETE")]
KINDS = [*ONES, *(Kind(kind.method, SET_SIZE) for kind in ONES)]


class Write(NamedTuple):
    """A request that is not yet sent: what there is of its items, and what there is to be."""

    kind: Kind
    path: str
    body: Any
    before: Rows
    after: Rows

    def fault(self, response: httpx.Response, rows: Rows, *, may_be_unknown: bool = False) -> str | None:
        """Say what is wrong with an answer, if anything is."""
        right = {"unknown": may_be_unknown, "done": told(response) == self._told(rows), "undone": True}
        states = {"unknown": (self.before, self.after), "done": (self.after,), "undone": (self.before,)}
        meant = meaning(response)
        if right.get(meant) and any(same(rows, state) for state in states[meant]):
            return None
        return (
            f"{self.kind}: {name_of(response)} {response.content.decode()}, and there is {rows}, before {self.before}"
        )

    def _told(self, rows: Rows) -> Any:
        """Return what an answer tells that is true."""
        if self.kind.method == "DELETE":
            return None if self.kind.size is None else [row.id for row in self.before.values()]
        items = [{"name": name, **rows[name]._asdict()} for name in self.after if name in rows]
        return items if self.kind.size else items[-1] if items else None


class Service:
    """A service with a proxy before its database, and what that holds, read past both."""

    def __init__(self, database_url: str, **settings: Any) -> None:
        self._url = make_url(database_url)
        self._settings = settings
        self._prefix = token_hex(4)
        self._numbers = count()
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            self.proxy = opened.enter_context(Proxy(str(self._url.host), self._url.port or 5432))
            address = self.proxy.url(self._url.render_as_string(hide_password=False))
            plain = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
            self.database: Any = await asyncpg.connect(plain)
            opened.push_async_callback(self.database.close)
            settings = Settings(database_url=address, **self._settings)
            self.client = await opened.enter_async_context(serving(settings))
            self._resources = opened.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.proxy.clear()
        await self._resources.aclose()

    def key(self) -> str:
        """Return a key that nobody has used."""
        return f"{self._prefix}-{next(self._numbers)}"

    async def write(self, kind: Kind) -> Write:
        """Prepare a write: what it is for is there, and was never seen by the service."""
        number = next(self._numbers)
        names = [f"{self._prefix} {number}.{index}" for index in range(kind.size or 1)]
        if kind.method == "POST":
            bodies = [{"name": name, "price": number} for name in names]
            rows = {name: Row(None, number, 1) for name in names}
            return Write(kind, "/items", bodies if kind.size else bodies[0], {}, rows)
        before = await self.insert(names)
        ids = [row.id for row in before.values()]
        if kind.method == "DELETE":
            path = f"/items?ids={','.join(map(str, ids))}" if kind.size else f"/items/{ids[0]}"
            return Write(kind, path, None, before, {})
        after = {name: Row(row.id, number, row.version + 1) for name, row in before.items()}
        if kind.size:
            return Write(kind, "/items", [{"id": id, "price": number} for id in ids], before, after)
        return Write(kind, f"/items/{ids[0]}", {"price": number}, before, after)

    async def send(self, write: Write, key: str | None = None, **headers: str) -> httpx.Response:
        """Send a write, and wait for its answer, whatever that is."""
        headers |= {} if key is None else {"idempotency-key": key}
        sent = {} if write.body is None else {"json": write.body}
        async with asyncio.timeout(LIMIT_S):
            return await self.client.request(write.kind.method, write.path, headers=headers, **sent)

    async def insert(self, names: Iterable[str]) -> Rows:
        """Put items there."""
        sql = "INSERT INTO items (name, price) SELECT unnest($1::text[]), 0 RETURNING id, name, price, version"
        return {
            row["name"]: Row(row["id"], row["price"], row["version"])
            for row in await self.database.fetch(sql, list(names))
        }

    async def rows(self, write: Write) -> Rows:
        """Return what there is of a write's items, and of its doubles."""
        sql = "SELECT id, name, price, version FROM items WHERE name = ANY($1) ORDER BY id"
        found = await self.database.fetch(sql, [*write.before, *write.after])
        rows = {row["name"]: Row(row["id"], row["price"], row["version"]) for row in found}
        return rows if len(rows) == len(found) else {"twice": Row(None, 0, 0)}

    async def ready(self) -> None:
        """Wait until everything is written again."""
        async with asyncio.timeout(LIMIT_S):
            for kind, keyed in product(KINDS, KEYED):
                while not (await self._tried(kind, keyed=keyed)).is_success:  # noqa: ASYNC110 - nobody sets an event
                    await asyncio.sleep(PAUSE_S)

    async def _tried(self, kind: Kind, *, keyed: bool) -> httpx.Response:
        return await self.send(await self.write(kind), self.key() if keyed else None)

    async def vanish(self) -> None:
        """End every connection, and let nobody in again."""
        self.proxy.set(refusing=True)
        await asyncio.to_thread(self.proxy.reset_all)

    async def quiet(self) -> None:
        """Wait until no connection of the service does anything, so that nothing can change any more."""
        async with asyncio.timeout(LIMIT_S):
            while await self.database.fetch(BUSY):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Let every write wait in the database."""
        async with self.database.transaction():
            await self.database.execute("LOCK TABLE items IN SHARE MODE")
            yield


def told(response: httpx.Response) -> Any:
    """Return what an answer tells of items, or of their ids."""
    body = response.json() if response.content else None
    if isinstance(body, list):
        return [pick(one) if isinstance(one, dict) else one for one in body]
    return pick(body) if isinstance(body, dict) and response.is_success else body


def pick(item: dict[str, Any]) -> dict[str, Any]:
    """Return those of an item's fields that are compared."""
    return {"name": item["name"], **{field: item[field] for field in Row._fields}}


def meaning(response: httpx.Response) -> str:
    """Return what an answer says of its write: nothing that is allowed, if it is a failure of the service."""
    if response.is_success:
        return "done"
    code = response.json()["code"]
    return "unknown" if code == UNKNOWN else "undone" if code in NOTHING_CHANGED else "failed"


def name_of(response: httpx.Response) -> str:
    """Name an answer, to count it."""
    return str(response.status_code) if response.is_success else f"{response.status_code} {response.json()['code']}"


def same(rows: Rows, state: Rows) -> bool:
    """Whether these are the rows of a state, which knows no ids of what is made."""
    known = {name: row if state.get(name, row).id is not None else row._replace(id=None) for name, row in rows.items()}
    return known == state


class Tally:
    """Answers, counted, and what was wrong with them."""

    def __init__(self) -> None:
        self.answers: dict[str, Counter[str]] = {}
        self.faults: list[str] = []

    def add(self, what: str, response: httpx.Response, fault: str | None) -> None:
        """Count an answer."""
        self.answers.setdefault(what, Counter())[name_of(response)] += 1
        self.faults += [] if fault is None else [f"{what}: {fault}"]

    def figures(self, cuts: int) -> dict[str, Any]:
        """Sum up. Raises AssertionError if anything was wrong."""
        assert not self.faults, "\n".join([f"{len(self.faults)} wrong answers", *self.faults[:20]])
        asked = {what: dict(counted) for what, counted in self.answers.items() if what != REPEATS}
        answers = sum(map(Counter.total, self.answers.values()))
        repeats = dict(self.answers.get(REPEATS, {}))
        return {"cuts": cuts, "answers": answers, "wrong": 0, "repeats": repeats, "by kind": asked}


Fault = Callable[[Service, Write, Moment], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def once(service: Service, write: Write, moment: Moment) -> AsyncIterator[None]:
    """Cut the write."""
    service.proxy.cut(moment, matching=write.kind.statement)
    yield


@asynccontextmanager
async def twice(service: Service, write: Write, moment: Moment) -> AsyncIterator[None]:
    """Cut the write, and whoever finds out what became of it, each at another moment."""
    service.proxy.cut(moment, matching=write.kind.statement)
    service.proxy.cut(MOMENTS[MOMENTS.index(moment) - 1], matching="commit_records")
    yield


@asynccontextmanager
async def away(service: Service, write: Write, moment: Moment, outage_s: float) -> AsyncIterator[None]:
    """Cut the write, and let nobody connect for so long, or until it was answered, if that is later."""
    before = len(service.proxy.cuts)

    async def leave() -> None:
        await until(lambda: len(service.proxy.cuts) > before)
        await service.vanish()
        await asyncio.sleep(outage_s)
        if outage_s:
            service.proxy.set(refusing=False)

    async with once(service, write, moment):
        leaving = asyncio.create_task(leave())
        yield
        await leaving
        service.proxy.set(refusing=False)
        await service.ready()


class Trial(NamedTuple):
    """What a write is put through."""

    kind: Kind
    moment: Moment
    keyed: bool

    def __str__(self) -> str:
        return f"{self.kind}, {self.moment} commit{', with a key' if self.keyed else ''}"


TRIALS = [Trial(*one) for one in product(KINDS, MOMENTS, KEYED)]


def cut_writes(
    database_url: str,
    times: int,
    fault: Fault = once,
    *,
    deadline_s: float | None = None,
    trials: Sequence[Trial] = TRIALS,
) -> dict[str, Any]:
    """Cut every kind of write at every moment, with and without a key, so many times each.

    Only with a deadline its outcome may stay unknown.
    """

    async def run() -> dict[str, Any]:
        tally, drops = Tally(), cycle(["reset", "close"])
        async with Service(database_url) as service:
            await service.ready()
            for trial in trials:
                for _ in range(times):
                    service.proxy.set(drop=next(drops))
                    await try_write(service, trial, tally, fault, deadline_s)
            return tally.figures(len(service.proxy.cuts))

    return asyncio.run(run())


async def try_write(service: Service, trial: Trial, tally: Tally, fault: Fault, deadline_s: float | None) -> None:
    """Send one write into a fault, and see whether what it is told is true, and stays so."""
    write, key = await service.write(trial.kind), service.key() if trial.keyed else None
    headers = {} if deadline_s is None else {"x-request-timeout": f"{deadline_s:.3f}"}
    async with fault(service, write, trial.moment):
        response = await service.send(write, key, **headers)
        if meaning(response) == "unknown":
            await service.quiet()
        rows = await service.rows(write)
        tally.add(f"{trial}", response, write.fault(response, rows, may_be_unknown=deadline_s is not None))
        assert not service.proxy.armed, f"{trial}: nothing was cut: {name_of(response)}"
    await service.quiet()
    if (later := await service.rows(write)) != rows:
        tally.faults.append(f"{trial}: there was {rows}, and later {later}")
    if key is not None:
        tally.add(REPEATS, *await repeated(service, write, key, response))


async def repeated(
    service: Service, write: Write, key: str, first: httpx.Response
) -> tuple[httpx.Response, str | None]:
    """Repeat a write under its key, and tell what is wrong with the answer: it must be the first one, or a success."""
    async with asyncio.timeout(LIMIT_S):
        while (again := await service.send(write, key)).status_code == 409:  # noqa: ASYNC110 - as above
            await asyncio.sleep(PAUSE_S)
    is_replay = REPLAYED in again.headers
    if first.is_success and (not is_replay or again.content != first.content or again.status_code != first.status_code):
        return again, f"{write.kind}: another answer to the repeat: {name_of(again)} {again.headers}"
    if meaning(first) == "undone" and is_replay:
        return again, f"{write.kind}: the answer of what was not done was replayed"
    if not again.is_success:
        return again, f"{write.kind}: {name_of(again)} to the repeat"
    return again, write.fault(again, await service.rows(write))


def cut_finding_out(database_url: str, times: int, trials: Sequence[Trial] = TRIALS) -> dict[str, Any]:
    """Cut a write, and whoever finds out what became of it."""
    return cut_writes(database_url, times, twice, trials=trials)


def cut_for_a_moment(database_url: str, times: int, trials: Sequence[Trial] = TRIALS) -> dict[str, Any]:
    """Cut a write, and let nobody connect for a moment: everybody is told the truth all the same."""
    return cut_writes(database_url, times, partial(away, outage_s=MOMENT_S), trials=trials)


def cut_for_long(database_url: str, times: int, trials: Sequence[Trial] = TRIALS) -> dict[str, Any]:
    """Cut a write, and let nobody connect until it was answered: then it is there once, or not at all, for good."""
    return cut_writes(database_url, times, partial(away, outage_s=0), deadline_s=DEADLINE_S, trials=trials)


def cut_crowds(database_url: str, times: int, trials: Sequence[Trial] = TRIALS) -> dict[str, Any]:
    """Cut what several callers write at the same time, in sets that they share, so many times for each moment."""

    async def run() -> dict[str, Any]:
        tally = Tally()
        async with Service(database_url) as service:
            for trial in (trial for trial in trials if trial.kind in ONES):
                for _ in range(times):
                    await try_crowd(service, trial, tally)
            largest = await service.database.fetchval(SIZES)
            assert largest == CALLERS, f"no set was larger than {largest}"
            return tally.figures(len(service.proxy.cuts))

    return asyncio.run(run())


async def try_crowd(service: Service, trial: Trial, tally: Tally) -> None:
    """Let callers wait behind one that the database holds, and cut the set that leaves next."""
    writes = [await service.write(trial.kind) for _ in range(CALLERS + 1)]
    keys = [service.key() if trial.keyed else None for _ in writes]
    async with service.held():
        sending = [asyncio.create_task(service.send(writes[0], keys[0]))]
        while not await service.database.fetch(WAITING):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        sending += [asyncio.create_task(service.send(*one)) for one in zip(writes[1:], keys[1:], strict=True)]
        for _ in range(100):  # they all have come as far as they can
            await asyncio.sleep(0)
        service.proxy.cut(trial.moment, matching=trial.kind.statement)
    for write, key, response in zip(writes, keys, await asyncio.gather(*sending), strict=True):
        tally.add(f"{trial}", response, write.fault(response, await service.rows(write)))
        if key is not None:
            tally.add(REPEATS, *await repeated(service, write, key, response))
    assert not service.proxy.armed, f"{trial}: nothing was cut"
