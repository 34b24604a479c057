"""Connections cut around a commit: in whatever phase of it, the response is what the database has."""

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
from tests.faults.conditions import CommitPhase
from tests.faults.proxy import Proxy
from tests.faults.resources import ITEMS, RESOURCES, Resource
from tests.support.responses import serving
from tests.support.waiting import PAUSE_S, until

PHASES: Sequence[CommitPhase] = get_args(CommitPhase)
KEYED = (False, True)
BATCH_SIZE = 3
CLIENTS = 16
LIMIT_S = 15.0  # beyond every deadline
OUTAGE_S = 0.3
DEADLINE_S = 0.5
NOTHING_CHANGED = {"unavailable", "overloaded", "timeout", "idempotency-key-in-use"}
UNKNOWN = "commit-outcome-unknown"
REPLAYED = "idempotency-replayed"
REPEATS = "repeats"
# Connections of the service that still do something.
BUSY = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'items-service' AND state <> 'idle'"
SIZES = "SELECT max(cardinality(ids)) FROM commit_records"
WAITING = "SELECT 1 FROM pg_locks WHERE NOT granted"


class Row(NamedTuple):
    """A row without its name; one that is yet to be created has no id."""

    id: int | None
    value: Any  # of the field that is updated
    version: int


Rows = dict[str, Row]  # by name, which no two have


class Kind(NamedTuple):
    """A kind of write."""

    method: str
    size: int | None = None  # of its batch
    resource: Resource = ITEMS

    def __str__(self) -> str:
        return f"{self.method} of {'one' if self.size is None else 'a batch'} of {self.resource}"

    @property
    def statement(self) -> str:
        """Return what tells its statement from others."""
        verb = {"POST": "INSERT INTO", "PATCH": "UPDATE", "DELETE": "DELETE FROM"}[self.method]
        return f"{verb} {self.resource.collection.table.name}"


METHODS = ("POST", "PATCH", "DELETE")
POST, PATCH, DELETE = (Kind(method) for method in METHODS)
KINDS = [Kind(*one) for one in product(METHODS, (None, BATCH_SIZE), RESOURCES)]


class Write(NamedTuple):
    """A request that is not yet sent: what there is of its rows, and what there is to be."""

    kind: Kind
    path: str
    body: Any
    before: Rows
    after: Rows

    def fault(self, response: httpx.Response, rows: Rows, *, may_be_unknown: bool = False) -> str | None:
        """Return what is wrong with a response, if anything is."""
        right = {"unknown": may_be_unknown, "done": self._shown(response) == self._right(rows), "undone": True}
        states = {"unknown": (self.before, self.after), "done": (self.after,), "undone": (self.before,)}
        meant = meaning(response)
        if right.get(meant) and any(same(rows, state) for state in states[meant]):
            return None
        return (
            f"{self.kind}: {name_of(response)} {response.content.decode()}, and there is {rows}, before {self.before}"
        )

    def _shown(self, response: httpx.Response) -> Any:
        """Return what a response says of rows, or of their ids."""
        body = response.json() if response.content else None
        if isinstance(body, list):
            return [self._compared(one) if isinstance(one, dict) else one for one in body]
        return self._compared(body) if isinstance(body, dict) and response.is_success else body

    def _compared(self, row: dict[str, Any]) -> tuple[str, Row]:
        """Return those of a row's fields that are compared."""
        resource = self.kind.resource
        return row[resource.named_by], Row(row["id"], row[resource.updated], row["version"])

    def _right(self, rows: Rows) -> Any:
        """Return what a response has to say."""
        if self.kind.method == "DELETE":
            return None if self.kind.size is None else [row.id for row in self.before.values()]
        found = [(name, rows[name]) for name in self.after if name in rows]
        return found if self.kind.size else found[-1] if found else None


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
        """Return a key that no request had before."""
        return f"{self._prefix}-{next(self._numbers)}"

    async def write(self, kind: Kind) -> Write:
        """Prepare a write: what it is for is there, and was never seen by the service."""
        resource = kind.resource
        names = [f"{self._prefix}-{next(self._numbers)}" for _ in range(kind.size or 1)]
        bodies = {name: resource.body(name, next(self._numbers)) for name in names}
        values = {name: body[resource.updated] for name, body in bodies.items()}
        if kind.method == "POST":
            rows = {name: Row(None, value, 1) for name, value in values.items()}
            return Write(kind, resource.path, [*bodies.values()] if kind.size else bodies[names[0]], {}, rows)
        before = await self.insert(resource, names)
        ids = [row.id for row in before.values()]
        if kind.method == "DELETE":
            path = f"{resource}?ids={','.join(map(str, ids))}" if kind.size else f"{resource}/{ids[0]}"
            return Write(kind, path, None, before, {})
        after = {name: row._replace(value=values[name], version=row.version + 1) for name, row in before.items()}
        patches = [{resource.updated: value} for value in values.values()]
        if kind.size:
            batch = [{"id": id, **patch} for id, patch in zip(ids, patches, strict=True)]
            return Write(kind, resource.path, batch, before, after)
        return Write(kind, f"{resource}/{ids[0]}", patches[0], before, after)

    async def send(self, write: Write, key: str | None = None, **headers: str) -> httpx.Response:
        """Send a write, and return its response, whatever that is."""
        headers |= {} if key is None else {"idempotency-key": key}
        sent = {} if write.body is None else {"json": write.body}
        async with asyncio.timeout(LIMIT_S):
            return await self.client.request(write.kind.method, write.path, headers=headers, **sent)

    async def insert(self, resource: Resource, names: Iterable[str]) -> Rows:
        """Insert rows, past the service."""
        rows: Rows = {}
        for name in names:
            columns = resource.columns(resource.body(name, next(self._numbers)))
            places = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
            into = f"{resource.collection.table.name} ({', '.join(columns)})"
            sql = f"INSERT INTO {into} VALUES ({places}) RETURNING id, {resource.updated}, version"  # noqa: S608
            rows[name] = Row(*await self.database.fetchrow(sql, *columns.values()))
        return rows

    async def rows(self, write: Write) -> Rows:
        """Return what there is of a write's rows, and of its duplicates."""
        resource = write.kind.resource
        names, table = resource.named_by, resource.collection.table.name
        sql = f"SELECT {names}, id, {resource.updated}, version FROM {table} WHERE {names} = ANY($1) ORDER BY id"  # noqa: S608
        found = await self.database.fetch(sql, [*write.before, *write.after])
        rows = {name: Row(*rest) for name, *rest in found}
        return rows if len(rows) == len(found) else {"twice": Row(None, 0, 0)}

    async def ready(self) -> None:
        """Wait until everything is written again."""
        async with asyncio.timeout(LIMIT_S):
            for kind, keyed in product(KINDS, KEYED):
                while not (await self._tried(kind, keyed=keyed)).is_success:  # noqa: ASYNC110 - there is no event for it
                    await asyncio.sleep(PAUSE_S)

    async def _tried(self, kind: Kind, *, keyed: bool) -> httpx.Response:
        return await self.send(await self.write(kind), self.key() if keyed else None)

    async def vanish(self) -> None:
        """End every connection, and refuse new ones."""
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
            tables = ", ".join(resource.collection.table.name for resource in RESOURCES)
            await self.database.execute(f"LOCK TABLE {tables} IN SHARE MODE")
            yield


def meaning(response: httpx.Response) -> str:
    """Return what a response says of its write: nothing that is allowed, if it is a failure of the service."""
    if response.is_success:
        return "done"
    code = response.json()["code"]
    return "unknown" if code == UNKNOWN else "undone" if code in NOTHING_CHANGED else "failed"


def name_of(response: httpx.Response) -> str:
    """Return the name of a response, to count it."""
    return str(response.status_code) if response.is_success else f"{response.status_code} {response.json()['code']}"


def same(rows: Rows, state: Rows) -> bool:
    """Return whether these are the rows of a state, which has no ids of rows that are created."""
    known = {name: row if state.get(name, row).id is not None else row._replace(id=None) for name, row in rows.items()}
    return known == state


class Tally:
    """Responses, counted, and what was wrong with them."""

    def __init__(self) -> None:
        self.responses: dict[str, Counter[str]] = {}
        self.faults: list[str] = []

    def add(self, what: str, response: httpx.Response, fault: str | None) -> None:
        """Count a response."""
        self.responses.setdefault(what, Counter())[name_of(response)] += 1
        self.faults += [] if fault is None else [f"{what}: {fault}"]

    def figures(self, cuts: int) -> dict[str, Any]:
        """Sum up. Raises AssertionError if anything was wrong."""
        assert not self.faults, "\n".join([f"{len(self.faults)} wrong responses", *self.faults[:20]])
        asked = {what: dict(counted) for what, counted in self.responses.items() if what != REPEATS}
        responses = sum(map(Counter.total, self.responses.values()))
        repeats = dict(self.responses.get(REPEATS, {}))
        return {"cuts": cuts, "responses": responses, "wrong": 0, "repeats": repeats, "by kind": asked}


Fault = Callable[[Service, Write, CommitPhase], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def once(service: Service, write: Write, phase: CommitPhase) -> AsyncIterator[None]:
    """Cut the write."""
    service.proxy.cut(phase, matching=write.kind.statement)
    yield


@asynccontextmanager
async def twice(service: Service, write: Write, phase: CommitPhase) -> AsyncIterator[None]:
    """Cut the write, and the query for its commit record, each in another phase."""
    service.proxy.cut(phase, matching=write.kind.statement)
    service.proxy.cut(PHASES[PHASES.index(phase) - 1], matching="commit_records")
    yield


@asynccontextmanager
async def away(service: Service, write: Write, phase: CommitPhase, outage_s: float) -> AsyncIterator[None]:
    """Cut the write, and refuse connections for so long, or until its response, if that is later."""
    before = len(service.proxy.cuts)

    async def leave() -> None:
        await until(lambda: len(service.proxy.cuts) > before)
        await service.vanish()
        await asyncio.sleep(outage_s)
        if outage_s:
            service.proxy.set(refusing=False)

    async with once(service, write, phase):
        leaving = asyncio.create_task(leave())
        yield
        await leaving
        service.proxy.set(refusing=False)
        await service.ready()


class Trial(NamedTuple):
    """What a write is put through."""

    kind: Kind
    phase: CommitPhase
    keyed: bool

    def __str__(self) -> str:
        return f"{self.kind}, {self.phase} commit{', with a key' if self.keyed else ''}"


TRIALS = [Trial(*one) for one in product(KINDS, PHASES, KEYED)]


def cut_writes(
    database_url: str,
    times: int,
    fault: Fault = once,
    *,
    deadline_s: float | None = None,
    trials: Sequence[Trial] = TRIALS,
) -> dict[str, Any]:
    """Cut every kind of write in every phase of its commit, with and without a key, so many times each.

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
    """Send one write into a fault, and see whether its response is true, and stays so."""
    write, key = await service.write(trial.kind), service.key() if trial.keyed else None
    headers = {} if deadline_s is None else {"x-request-timeout": f"{deadline_s:.3f}"}
    async with fault(service, write, trial.phase):
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
    """Repeat a write under its key, and return what is wrong with the response: it must be the first, or a success."""
    async with asyncio.timeout(LIMIT_S):
        while (again := await service.send(write, key)).status_code == 409:  # noqa: ASYNC110 - as above
            await asyncio.sleep(PAUSE_S)
    is_replay = REPLAYED in again.headers
    if first.is_success and (not is_replay or again.content != first.content or again.status_code != first.status_code):
        return again, f"{write.kind}: another response to the repeat: {name_of(again)} {again.headers}"
    if meaning(first) == "undone" and is_replay:
        return again, f"{write.kind}: the response of what was not done was replayed"
    if not again.is_success:
        return again, f"{write.kind}: {name_of(again)} to the repeat"
    return again, write.fault(again, await service.rows(write))


def cut_finding_out(database_url: str, times: int, trials: Sequence[Trial] = TRIALS) -> dict[str, Any]:
    """Cut a write, and the query for its commit record."""
    return cut_writes(database_url, times, twice, trials=trials)


def cut_for_a_short_outage(database_url: str, times: int, trials: Sequence[Trial] = TRIALS) -> dict[str, Any]:
    """Cut a write, and refuse connections for a short time: every response is true all the same."""
    return cut_writes(database_url, times, partial(away, outage_s=OUTAGE_S), trials=trials)


def cut_for_a_long_outage(database_url: str, times: int, trials: Sequence[Trial] = TRIALS) -> dict[str, Any]:
    """Cut a write, and refuse connections until its response: then it is there once, or not at all, for good."""
    return cut_writes(database_url, times, partial(away, outage_s=0), deadline_s=DEADLINE_S, trials=trials)


def cut_crowds(database_url: str, times: int, trials: Sequence[Trial] = TRIALS) -> dict[str, Any]:
    """Cut what several clients write at the same time, in batches that they share, so many times for each phase."""

    async def run() -> dict[str, Any]:
        tally = Tally()
        async with Service(database_url) as service:
            for trial in (trial for trial in trials if trial.kind.size is None):
                for _ in range(times):
                    await try_crowd(service, trial, tally)
            largest = await service.database.fetchval(SIZES)
            assert largest == CLIENTS, f"no batch was larger than {largest}"
            return tally.figures(len(service.proxy.cuts))

    return asyncio.run(run())


async def try_crowd(service: Service, trial: Trial, tally: Tally) -> None:
    """Let clients wait behind one that the database holds, and cut the batch that is sent next."""
    writes = [await service.write(trial.kind) for _ in range(CLIENTS + 1)]
    keys = [service.key() if trial.keyed else None for _ in writes]
    async with service.held():
        sending = [asyncio.create_task(service.send(writes[0], keys[0]))]
        while not await service.database.fetch(WAITING):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        sending += [asyncio.create_task(service.send(*one)) for one in zip(writes[1:], keys[1:], strict=True)]
        for _ in range(100):  # they all have come as far as they can
            await asyncio.sleep(0)
        service.proxy.cut(trial.phase, matching=trial.kind.statement)
    for write, key, response in zip(writes, keys, await asyncio.gather(*sending), strict=True):
        tally.add(f"{trial}", response, write.fault(response, await service.rows(write)))
        if key is not None:
            tally.add(REPEATS, *await repeated(service, write, key, response))
    assert not service.proxy.armed, f"{trial}: nothing was cut"
