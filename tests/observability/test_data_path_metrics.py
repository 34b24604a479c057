"""What is counted of the data path: batches, their waits and statements, retries, connections, lookups, retention."""

import asyncio
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import make_url

from db.engines.engine import open_database
from service.settings import Settings
from tests.db.test_refused_statements import REFUSE, TRIGGER
from tests.db.test_retention import OLD, add_keys, add_tokens, wait_for_count
from tests.faults.cuts import POST
from tests.faults.proxy import Proxy
from tests.support.exposed import exposed
from tests.support.responses import create_item, execute, serving

LAMP = {"name": "lamp", "price": 9.5}
on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


async def test_requests_that_share_a_statement_are_members_of_one_batch(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    before = await exposed(client)
    items = await asyncio.gather(*(create_item(client) for _ in range(50)))
    await asyncio.gather(*(client.get(f"/items/{item['id']}") for item in items))
    await asyncio.gather(*(client.get(f"/items/{item['id']}") for _ in range(50)))
    after = await exposed(client)

    def grown(name: str, batcher: str) -> float:
        return after.sum(name, batcher=batcher) - before.sum(name, batcher=batcher)

    assert grown("batch_size_sum", "items create") == 50
    assert grown("batch_size_count", "items create") < 10
    assert 50 < grown("batch_size_sum", "items get") < 60  # equal reads are one member of their batch
    for name in ("queue_wait_seconds", "statement_duration_seconds"):
        assert grown(f"{name}_count", "items create") == grown("batch_size_count", "items create")
        assert 0 < grown(f"{name}_sum", "items create") < 60


@on_postgresql
async def test_a_batch_with_a_row_that_is_refused_is_bisected(client: httpx.AsyncClient, database_url: str) -> None:
    await execute(database_url, REFUSE, TRIGGER)

    async def post(name: str) -> int:
        return (await client.post("/items", json={"name": name, "price": 1})).status_code

    statuses = await asyncio.gather(*(post("23514" if number == 7 else "lamp") for number in range(20)))
    assert sorted(statuses) == [201] * 19 + [422]
    assert (await exposed(client)).sum("batch_retries_total", batcher="items create", reason="bisected") > 0


@on_postgresql
async def test_connections_and_their_loss_are_counted_and_so_is_a_commit_that_was_found(settings: Settings) -> None:
    url = make_url(settings.database_url)
    with Proxy(str(url.host), url.port or 5432) as proxy:
        database_url = proxy.url(settings.database_url)
        async with serving(Settings(database_url=database_url)) as client:
            before = await exposed(client)
            assert before.sum("database_connects_total", result="connected") == settings.batch_connections
            proxy.cut("after", matching=POST.statement)
            assert (await client.post("/items", json=LAMP)).status_code == 201
            after = await exposed(client)
    assert after.sum("commit_lookups_total", outcome="committed") == 1
    assert after.sum("batch_retries_total", batcher="items create", reason="connection_lost") == 1
    assert after.sum("database_connects_total", result="connected") == settings.batch_connections + 1


@on_postgresql
async def test_a_transaction_whose_commit_is_cut_is_looked_up(settings: Settings) -> None:
    url = make_url(settings.database_url)
    with Proxy(str(url.host), url.port or 5432) as proxy:
        async with serving(Settings(database_url=proxy.url(settings.database_url))) as client:
            proxy.cut("after", matching="COMMIT")
            response = await client.post("/items", json=LAMP, headers={"Idempotency-Key": "cut"})
            assert response.status_code == 201
            found = await exposed(client)
    assert found.sum("commit_lookups_total", outcome="committed") == 1


@on_postgresql
async def test_a_database_that_cannot_be_reached_is_shown_and_so_are_the_attempts(settings: Settings) -> None:
    url = make_url(settings.database_url)
    with Proxy(str(url.host), url.port or 5432) as proxy:
        proxy.set(refusing=True)
        async with serving(Settings(database_url=proxy.url(settings.database_url))) as client:
            found = await exposed(client)
    assert found["database_available"] == 0
    assert found.sum("database_connects_total", result="failed") > 0
    assert found.sum("database_connects_total", result="connected") == 0


async def test_rows_that_are_cleaned_are_counted_by_table(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.transactions.retention.INTERVAL_S", 0.01)
    database = open_database(settings.database_url)
    try:
        await add_keys(database, 30)
        await add_tokens(database, *[OLD - timedelta(days=7)] * 2)
    finally:
        await database.close()
    async with serving(settings) as client:
        await wait_for_count(settings.database_url, "idempotency_keys", 0)
        await wait_for_count(settings.database_url, "tokens", 0)
        found = await exposed(client)
    cleaned = {labels["table"]: rows for labels, rows in found.of("rows_cleaned_total")}
    assert cleaned == {"idempotency_keys": 30, "tokens": 2, "commit_records": 0}
