"""Exactly once, or not at all: interleavings of loss, repeat, deadline and restart that could break it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncSession

from db.batching.batch import TOKEN_BYTES
from db.batching.batcher import LOST_TRIES
from db.engines.database import Options
from db.engines.engine import open_database
from db.errors import OutcomeUnknown
from db.models import Item
from db.resources.items import ITEMS
from db.tables.statements import TableStatements
from db.tables.table import Deletion
from db.transactions.runner import run_in_transaction
from service.settings import Settings
from tests.api.test_idempotency import held
from tests.faults.cuts import DELETE, PATCH, PHASES, POST, REPLAYED, Kind, Service, Trial, away, cut_writes, meaning
from tests.faults.proxy import Proxy
from tests.support.pretending import PretendedDatabase, outcomes, send
from tests.support.responses import PATIENT, code, create_item, everything, read, serving
from tests.support.stores import NewRow, patch
from tests.support.waiting import LIMIT_S, PAUSE_S, until

LAMP = {"name": "lamp", "price": 9.5}
POST_BATCH = Kind("POST", 3)
# Every commit of a new item waits for whoever has this lock.
SLOW_COMMITS = """
    CREATE FUNCTION wait() RETURNS trigger AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END'
        LANGUAGE plpgsql;
    CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON items DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION wait()
"""
FINDING_OUT = "SELECT query_start FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%ON CONFLICT%'"
TABLES = "items, idempotency_keys"
COUNT = "SELECT count(*) FROM items"
FULL = """
    CREATE FUNCTION refuse() RETURNS trigger AS 'BEGIN IF (SELECT count(*) FROM items) > 0 THEN
        RAISE EXCEPTION ''the shelf is full''; END IF; RETURN NULL; END' LANGUAGE plpgsql;
    CREATE TRIGGER refuse BEFORE INSERT ON items FOR EACH STATEMENT EXECUTE FUNCTION refuse()
"""

on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


@asynccontextmanager
async def slow_commits(service: Service) -> AsyncIterator[None]:
    """Let new items wait in their commits."""
    await service.database.execute(SLOW_COMMITS)
    await service.database.execute("SELECT pg_advisory_lock(1)")
    yield
    await service.database.execute("SELECT pg_advisory_unlock(1)")


@on_postgresql
async def test_a_commit_that_the_server_still_works_at_is_waited_for_longer_than_for_a_statement(
    database_url: str,
) -> None:
    async def work(session: AsyncSession) -> Item:
        await database.limit(session, 0)
        lamp = Item(**LAMP)
        session.add(lamp)
        return lamp

    async with Service(database_url) as service:
        database = open_database(service.proxy.url(database_url), Options(statement_timeout_ms=100))
        async with slow_commits(service):
            service.proxy.cut("during", matching=POST.statement)
            writing = asyncio.create_task(run_in_transaction(database, work, 10))
            asked: set[Any] = set()
            while len(asked) < 3 and not writing.done():
                asked |= {started for (started,) in await service.database.fetch(FINDING_OUT)}
        assert (await writing).id
        assert await service.database.fetchval(COUNT) == 1
        await database.close()


@on_postgresql
@pytest.mark.parametrize("kind", [POST, POST_BATCH], ids=str)
@pytest.mark.parametrize("has_key", [True, False])
async def test_a_deadline_that_ends_during_the_commit_leaves_one_item_or_none(
    database_url: str, kind: Kind, has_key: bool
) -> None:
    async with Service(database_url) as service:
        write, key = await service.write(kind), service.key() if has_key else None
        async with slow_commits(service):
            first = await service.send(write, key, **{"x-request-timeout": "0.2"})
            assert meaning(first) in {"unknown", "undone"}  # who gives up first
        await service.quiet()
        assert write.fault(first, await service.rows(write), may_be_unknown=True) is None
        if has_key:
            again = await service.send(write, key)
            assert again.status_code == 201
            assert write.fault(again, await service.rows(write)) is None


@on_postgresql
def test_what_could_not_be_confirmed_in_time_is_not_written_later(database_url: str) -> None:
    """Also where others have more time, and share the batcher."""
    outage = partial(away, outage_s=0)
    figures = cut_writes(database_url, 2, outage, deadline_s=0.3, trials=[Trial(POST, "before", keyed=True)])
    assert (figures["cuts"], figures["wrong"]) == (2, 0)


@on_postgresql
@pytest.mark.parametrize(
    ("kind", "phase"), [(POST, "before"), (POST_BATCH, "after"), (Kind("PATCH", 3), "during")], ids=str
)
async def test_a_client_that_leaves_while_its_write_is_in_doubt_finds_one_response_under_its_key(
    database_url: str, kind: Kind, phase: Any
) -> None:
    async with Service(database_url) as service:
        await service.ready()
        write, key = await service.write(kind), service.key()
        async with away(service, write, phase, outage_s=0):
            cuts = len(service.proxy.cuts)
            first = asyncio.create_task(service.send(write, key))
            await until(lambda: len(service.proxy.cuts) > cuts)
            first.cancel()
            await asyncio.wait([first])
        await service.quiet()
        responses = [await service.send(write, key) for _ in range(2)]
        assert REPLAYED in responses[1].headers
        assert responses[0].content == responses[1].content
        assert write.fault(responses[0], await service.rows(write)) is None


@on_postgresql
@pytest.mark.parametrize("kind", [POST, POST_BATCH], ids=str)
@pytest.mark.parametrize("rule", ["CREATE UNIQUE INDEX ON items (name)", FULL], ids=["a unique name", "a full shelf"])
async def test_a_write_that_stands_in_its_own_way_is_known_by_its_commit_record(
    database_url: str, kind: Kind, rule: str
) -> None:
    async with Service(database_url) as service:
        await service.database.execute(rule)
        write = await service.write(kind)
        service.proxy.cut("after", matching=kind.statement)
        response = await service.send(write)
        assert write.fault(response, await service.rows(write)) is None
        assert response.status_code == 201
        another = await service.send(write)
        assert another.status_code >= 409
        assert await service.database.fetchval(COUNT) == (kind.size or 1)


@on_postgresql
@pytest.mark.parametrize(("kind", "phase"), [(POST, "before"), (POST, "after"), (POST_BATCH, "during")], ids=str)
async def test_two_workers_with_one_key_write_once_also_if_one_of_them_is_cut(
    database_url: str, kind: Kind, phase: Any
) -> None:
    async with Service(database_url) as service, Service(database_url) as other:
        write, key = await service.write(kind), service.key()
        service.proxy.cut(phase, matching=kind.statement)
        responses = await asyncio.gather(*(one.send(write, key) for one in (service, other) for _ in range(3)))
        assert {response.status_code for response in responses} <= {201, 409}
        assert {code(response)[1] for response in responses if response.is_error} <= {"idempotency-key-in-use"}
        contents = {response.content for response in responses if response.is_success}
        assert len(contents) == 1
        again = await other.send(write, key)
        assert (again.content, REPLAYED in again.headers) == (*contents, True)
        assert write.fault(again, await service.rows(write)) is None


@on_postgresql
@pytest.mark.parametrize("phase", ["before", "after"])
async def test_in_a_batch_that_is_cut_a_repeat_a_new_item_and_a_reused_key_each_have_their_response(
    database_url: str, phase: Any
) -> None:
    async with Service(database_url) as service:
        writes, keys = [await service.write(POST) for _ in range(4)], [service.key() for _ in range(4)]
        first = await service.send(writes[0], keys[0])
        async with service.held():
            holding = asyncio.create_task(service.send(writes[1], keys[1]))
            while not await service.database.fetch("SELECT 1 FROM pg_locks WHERE NOT granted"):
                assert not holding.done()
            sent = [(writes[0], keys[0]), (writes[2], keys[0]), (writes[2], keys[2]), (writes[3], keys[3])]
            sending = [asyncio.create_task(service.send(*one)) for one in (sent[0], *sent[2:])]
            for _ in range(100):  # they all have come as far as they can
                await asyncio.sleep(0)
            service.proxy.cut(phase, matching=POST.statement)
        replay, *new = await asyncio.gather(*sending)
        assert (replay.content, REPLAYED in replay.headers) == (first.content, True)
        assert code(await service.send(*sent[1])) == (422, "idempotency-key-reused")
        for write, response in zip(writes, [first, await holding, *new], strict=True):
            assert write.fault(response, await service.rows(write)) is None
        assert await service.database.fetchval(COUNT) == 4


@on_postgresql
@pytest.mark.parametrize("kind", [PATCH, DELETE, Kind("PATCH", 2), Kind("DELETE", 2)], ids=str)
@pytest.mark.parametrize("phase", PHASES)
async def test_a_write_that_touches_nothing_has_that_response_also_if_it_is_cut(
    database_url: str, kind: Kind, phase: Any
) -> None:
    async with Service(database_url) as service:
        write = await service.write(kind)
        await service.database.execute("DELETE FROM items")
        service.proxy.cut(phase, matching=kind.statement)
        response = await service.send(write)
        assert response.status_code == 404 or (kind.method, response.json()) == ("DELETE", [])
        assert not await service.rows(write)


@on_postgresql
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_a_stale_write_has_that_response_also_if_it_is_cut(database_url: str, method: str) -> None:
    async with Service(database_url) as service:
        lamp = await create_item(service.client)
        for phase in PHASES:
            service.proxy.cut(phase, matching=Kind(method).statement)
            body = {"price": 1} if method == "PATCH" else None
            headers = {"if-match": '"9-json"'}
            response = await service.client.request(method, f"/items/{lamp['id']}", headers=headers, json=body)
            assert code(response) == (412, "stale")
        assert await read(service.client, lamp["id"]) == lamp


@on_postgresql
async def test_a_service_that_stops_with_a_write_in_doubt_reports_an_unknown_outcome(database_url: str) -> None:
    url = make_url(database_url)
    with Proxy(str(url.host), url.port or 5432) as proxy:
        async with serving(Settings(database_url=proxy.url(database_url))) as client:
            proxy.cut("after", matching=POST.statement)
            sending = asyncio.create_task(client.post("/items", json=LAMP))
            await until(lambda: proxy.cuts)
            proxy.set(refusing=True)
            await asyncio.to_thread(proxy.reset_all)
        assert meaning(await sending) in {"unknown", "done"}


@pytest.mark.parametrize("has_key", [True, False])
@pytest.mark.parametrize("shape", ["one", "batch"])
async def test_after_a_timeout_a_client_finds_nothing_changed_now_or_later(
    database_url: str, backend: str, has_key: bool, shape: str
) -> None:
    async with serving(Settings(database_url=database_url, **PATIENT)) as client:
        lamp = await create_item(client)
        here, body = f"/items/{lamp['id']}", {"price": 1.0}
        path, sent = (here, body) if shape == "one" else ("/items", [{"id": lamp["id"], **body}])
        headers = {"idempotency-key": "k"} if has_key else {}

        async def change(**more: str) -> httpx.Response:
            return await client.patch(path, json=sent, headers={**headers, **more})

        async with held(database_url, backend):
            response = await change(**{"x-request-timeout": "0.2"})
        assert meaning(response) in {"undone", "unknown"}
        chair = await create_item(client, name="chair")  # whatever was before it is over
        there = await read(client, lamp["id"])
        if meaning(response) == "undone":
            assert there == lamp
        if has_key:
            while (again := await change()).status_code == 409:  # noqa: ASYNC110 - no event is set
                await asyncio.sleep(PAUSE_S)
            assert (again.status_code, (await read(client, lamp["id"]))["version"]) == (200, 2)
        assert [item["id"] for item in await everything(client)] == [lamp["id"], chair["id"]]


@on_postgresql
async def test_a_write_that_is_found_again_has_its_response_though_its_items_are_gone(database_url: str) -> None:
    database = open_database(database_url)
    statements = TableStatements(database, ITEMS, lambda *columns: columns)
    lamps, tokens = [NewRow("lamp", 1.0, True)] * 2, [bytes([number] * TOKEN_BYTES) for number in (1, 2)]
    async with database.connect() as connection:
        made: Any = await statements.create(connection, lamps, tokens[0])
        changes = [patch(made[0][0], price=2.0)]
        [changed] = await statements.update(connection, changes, tokens[1])
        await statements.delete(connection, [Deletion(columns[0]) for columns in made])
        assert await statements.create(connection, lamps, tokens[0]) == made
        [unknown] = await statements.update(connection, changes, tokens[1])
        assert (isinstance(changed, tuple), type(unknown)) == (True, OutcomeUnknown)
    await database.close()


@pytest.mark.parametrize("has_key", [True, False])
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_all_steps_of_a_write_for_several_versions_have_one_deadline(
    database_url: str, backend: str, has_key: bool, method: str
) -> None:
    """Without it each of them, the look for the key too, would wait for a minute."""
    async with serving(Settings(database_url=database_url, **PATIENT)) as client:
        lamp = await create_item(client)
        headers = {"if-match": '"1-json", "2-json"', "x-request-timeout": "0.3"}
        headers |= {"idempotency-key": "k"} if has_key else {}
        body = None if method == "DELETE" else LAMP
        async with asyncio.timeout(LIMIT_S), held(database_url, backend, TABLES):
            response = await client.request(method, f"/items/{lamp['id']}", headers=headers, json=body)
        assert meaning(response) in {"undone", "unknown"}
        if meaning(response) == "undone":
            assert await read(client, lamp["id"]) == lamp


@pytest.mark.parametrize("members", [[1], [1, 2, 3]])
async def test_a_write_in_doubt_that_fails_for_no_known_reason_is_neither_divided_nor_called_undone(
    members: list[int],
) -> None:
    database = PretendedDatabase()
    async with database.batcher() as batcher:
        waiters = await send(database, batcher, *members)
        database.crash()
        for number in range(2, LOST_TRIES + 1):
            await until(lambda number=number: len(database.batches) == number and database.in_flight)  # type: ignore[misc]
            database.in_flight.pop().landed.set_exception(ValueError("what is this?"))
        assert await outcomes(waiters) == [OutcomeUnknown] * len(members)
        assert database.batches == [members] * LOST_TRIES
        assert len(set(database.tokens)) == 1
        database.let_go()
        assert await outcomes([batcher.submit(9)]) == [9]
