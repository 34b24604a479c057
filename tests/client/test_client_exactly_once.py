"""Whatever breaks between the client and the database, each write that it makes is there once."""

import asyncio
from collections import Counter
from itertools import cycle, islice

import pytest
from sqlalchemy import make_url

import items_client
from items_client import Client, Item, ItemCreate
from tests.client.cutter import PHASES, Cutter, Phase, cutting
from tests.faults.proxy import Proxy
from tests.support.serving import ServiceProcess
from tests.support.waiting import until

WRITES = 18
# Three of five tries are cut, fewer than the budget has retries.
CUTS: list[Phase | None] = list(islice(cycle([*PHASES, None, None]), WRITES))
LIMIT_S = 60.0  # beyond what a slow machine needs; nothing here waits for it
UNKNOWN = "commit-outcome-unknown"


async def names(client: Client, prefix: str) -> Counter[str]:
    """Return how often there is an item of each name."""
    return Counter([item.name async for item in client.items.list(name_prefix=prefix)])


async def made(client: Client, prefix: str) -> list[Item]:
    """Create items past every cut."""
    return await client.items.create_many([ItemCreate(f"{prefix}{number:02}", number) for number in range(WRITES)])


def assert_repeated(cutter: Cutter) -> None:
    """Raise unless writes were cut, and each was sent again under its own key, some of them by aiohttp itself."""
    assert cutter.cuts == len([phase for phase in CUTS if phase])
    counts = Counter(cutter.keys)
    assert len(counts) == WRITES
    assert counts.total() == WRITES + cutter.cuts


async def test_creations_whose_connections_are_cut_are_there_once(service: ServiceProcess, prefix: str) -> None:
    async with cutting(service.url) as cutter, Client(cutter.url, timeout=LIMIT_S) as client:
        wanted = [f"{prefix}{number:02}" for number in range(WRITES)]
        cutter.cut(CUTS)
        created = await asyncio.gather(*(client.items.create(ItemCreate(name, 1)) for name in wanted))
        assert_repeated(cutter)
        assert [item.name for item in created] == wanted
        assert await names(client, prefix) == Counter(wanted)


async def test_changes_whose_connections_are_cut_are_made_once_and_none_is_taken_for_another_writers(
    service: ServiceProcess, prefix: str
) -> None:
    async with cutting(service.url) as cutter, Client(cutter.url, timeout=LIMIT_S) as client:
        rows = await made(client, prefix)
        cutter.requests.clear()
        cutter.cut(CUTS)
        half = len(rows) // 2
        changed = await asyncio.gather(
            *(client.items.update(item, price=100) for item in rows[:half]),
            *(client.items.replace(item, ItemCreate(item.name, 100)) for item in rows[half:]),
        )
        assert_repeated(cutter)
        assert [(item.price, item.version) for item in changed] == [(100, 2)] * WRITES
        assert await client.items.get_many([item.id for item in rows]) == changed


async def test_deletions_whose_connections_are_cut_happen_once_and_find_their_rows(
    service: ServiceProcess, prefix: str
) -> None:
    async with cutting(service.url) as cutter, Client(cutter.url, timeout=LIMIT_S) as client:
        rows = await made(client, prefix)
        cutter.requests.clear()
        cutter.cut(CUTS)
        await asyncio.gather(*(client.items.delete(item) for item in rows))  # no NotFound, no VersionMismatch
        assert_repeated(cutter)
        assert await names(client, prefix) == Counter()


async def test_connections_that_the_service_closed_while_they_were_idle_cost_no_call(
    service: ServiceProcess, prefix: str
) -> None:
    async with cutting(service.url) as cutter, Client(cutter.url, timeout=LIMIT_S) as client:
        for number in range(5):
            cutter.end()  # as the client may not know before it sends
            await client.items.create(ItemCreate(f"{prefix}{number}", 1))
        assert (await names(client, prefix)).total() == 5


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_an_outcome_that_the_service_does_not_know_is_found_out_under_the_same_key(database_url: str) -> None:
    url = make_url(database_url)
    with Proxy(str(url.host), url.port or 5432) as proxy, impatient(proxy.url(database_url)) as service:
        async with cutting(service.url) as cutter, Client(cutter.url, timeout=LIMIT_S) as client:
            created = [await client.items.create(ItemCreate("first", 1))]
            async with asyncio.timeout(LIMIT_S):
                while UNKNOWN not in cutter.codes:  # the service may have another connection, and find out by that
                    created.append(await create_without_database(client, proxy, cutter))
            counts = Counter(cutter.keys)
            assert len(counts) == len(created) < counts.total()
            assert [item async for item in client.items.list()] == created


def impatient(database_url: str) -> ServiceProcess:
    """Return a service that gives up soon."""
    return ServiceProcess(database_url, ITEMSVC_REQUEST_TIMEOUT_MS="500", ITEMSVC_STATEMENT_TIMEOUT_MS="400")


async def create_without_database(client: Client, proxy: Proxy, cutter: Cutter) -> Item:
    """Create an item whose commit is cut, with a database that is away until the service has given up."""
    cuts, codes = len(proxy.cuts), len(cutter.codes)
    proxy.set(refusing=True)
    proxy.cut("after", matching="INSERT INTO items")
    creating = asyncio.create_task(client.items.create(ItemCreate("lamp", 9.5)))
    await until(lambda: len(proxy.cuts) > cuts or creating.done())
    await asyncio.to_thread(proxy.reset_all)
    await until(lambda: len(cutter.codes) > codes or creating.done())
    proxy.clear()
    return await creating


async def test_writes_in_a_service_that_is_killed_are_there_once(database_url: str) -> None:
    with ServiceProcess(database_url) as service:
        async with Client(service.url, timeout=LIMIT_S) as client:
            wanted = [f"n-{number:02}" for number in range(40)]
            writes = [asyncio.create_task(client.items.create(ItemCreate(name, 1))) for name in wanted]
            await until(lambda: any(write.done() for write in writes))
            for worker in service.workers:
                worker.kill()
            done = await asyncio.gather(*writes, return_exceptions=True)
            there = await names(client, "n-")
    results = dict(zip(wanted, done, strict=True))
    lost = [name for name, result in results.items() if isinstance(result, Item) and not there[name]]
    twice = [name for name, number in there.items() if number > 1]
    assert (lost, twice) == ([], [])
    # With more failures at once than the budget has, calls end, and say that they do not know, or that nothing is done.
    others = {name: result for name, result in results.items() if not isinstance(result, Item)}
    assert all(isinstance(error, items_client.ItemsError) for error in others.values()), others
    undone = [name for name, error in others.items() if not isinstance(error, items_client.OutcomeUnknown)]
    assert [name for name in undone if there[name]] == []
