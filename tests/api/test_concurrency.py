"""Many requests at once: none is lost, none sees what is not there any more, and none pays for another."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import httpx
import pytest

from tests.support.resources import Request, ResourceClient
from tests.support.responses import code

AT_ONCE = 64
pytestmark = pytest.mark.parametrize("settings", [{}, {"coalesce": False}], indirect=True, ids=["batchers", "alone"])


def statuses(responses: Sequence[httpx.Response]) -> dict[int, int]:
    return dict(Counter(response.status_code for response in responses))


async def test_rows_that_are_created_at_once_each_have_an_id_and_their_own_values(resource: ResourceClient) -> None:
    bodies = [resource.new() for _ in range(AT_ONCE)]
    responses = await asyncio.gather(*(resource.send(Request("POST", resource.path, body)) for body in bodies))
    assert statuses(responses) == {201: AT_ONCE}
    rows = [response.json() for response in responses]
    assert len({row["id"] for row in rows}) == AT_ONCE
    assert all(row.items() >= body.items() for row, body in zip(rows, bodies, strict=True))
    assert await resource.everything() == sorted(rows, key=lambda row: int(row["id"]))


async def test_changes_of_one_row_at_once_give_versions_without_gaps(full_resource: ResourceClient) -> None:
    [row] = await full_resource.create()
    changes = [full_resource.change() for _ in range(AT_ONCE)]
    sent = [full_resource.send(Request("PATCH", full_resource.url(row), change)) for change in changes]
    responses = await asyncio.gather(*sent)
    assert statuses(responses) == {200: AT_ONCE}
    changed = [response.json() for response in responses]
    assert all(one.items() >= change.items() for one, change in zip(changed, changes, strict=True))
    changed.sort(key=lambda one: int(one["version"]))
    assert [one["version"] for one in changed] == list(range(2, AT_ONCE + 2))
    assert await full_resource.everything() == changed[-1:]


async def test_changes_of_different_fields_at_once_are_all_made(full_resource: ResourceClient) -> None:
    [row] = await full_resource.create()
    change = full_resource.change()
    patches = [Request("PATCH", full_resource.url(row), {name: value}) for name, value in change.items()]
    await asyncio.gather(*map(full_resource.send, patches))
    [found] = await full_resource.everything()
    assert found.items() >= {**change, "version": 1 + len(change)}.items()


@pytest.mark.parametrize("rivals", [2, AT_ONCE])
async def test_of_updates_from_the_same_version_exactly_one_wins(full_resource: ResourceClient, rivals: int) -> None:
    [row] = await full_resource.create()
    for version in (1, 2, 3):
        patches = [Request("PATCH", full_resource.url(row), full_resource.change()) for _ in range(rivals)]
        sent = (full_resource.send(patch, **{"if-match": f'"{version}-json"'}) for patch in patches)
        responses = await asyncio.gather(*sent)
        assert statuses(responses) == {200: 1, 412: rivals - 1}
        [won] = [response.json() for response in responses if response.status_code == 200]
        assert await full_resource.everything() == [won]


async def test_of_different_writes_from_the_same_version_exactly_one_wins(full_resource: ResourceClient) -> None:
    for row in await full_resource.create(count=10):
        tags = ['"1-json"', '"1-json", "9-json"']
        changes = [change._replace(headers={"if-match": tag}) for change in full_resource.changes(row) for tag in tags]
        changes.append(Request("PATCH", full_resource.path, [full_resource.change(id=row["id"], version=1)]))
        responses = await asyncio.gather(*map(full_resource.send, changes))
        assert statuses(responses) == {200: 1, 412: len(changes) - 1}
        assert (await full_resource.client.get(full_resource.url(row))).json()["version"] == 2


async def test_of_deletes_at_once_exactly_one_finds_the_row(full_resource: ResourceClient) -> None:
    [row] = await full_resource.create()
    deletion = Request("DELETE", full_resource.url(row))
    responses = await asyncio.gather(*(full_resource.send(deletion) for _ in range(AT_ONCE)))
    assert statuses(responses) == {204: 1, 404: AT_ONCE - 1}


async def test_a_reader_who_comes_after_a_response_sees_what_was_written(full_resource: ResourceClient) -> None:
    async def write_and_read() -> None:
        client, [row] = full_resource.client, await full_resource.create()
        here = full_resource.url(row)
        for _ in range(4):
            changed = await client.patch(here, json=full_resource.change())
            found, *others = await asyncio.gather(*(client.get(here) for _ in range(3)))
            assert found.content == changed.content
            assert all(other.content == found.content for other in others)
            listed = await client.get(
                full_resource.path, params={"order": full_resource.collection.orders[0], "limit": 1000}
            )
            assert changed.json() in listed.json()
        await client.delete(here)
        assert code(await client.get(here)) == (404, f"{full_resource.noun}-not-found")

    await asyncio.gather(*(write_and_read() for _ in range(16)))


async def test_a_request_that_fails_takes_no_other_with_it(full_resource: ResourceClient) -> None:
    rows = await full_resource.create(count=AT_ONCE)
    patches = []
    for index, row in enumerate(rows):
        stale, missing = index % 3 == 1, index % 3 == 2
        url = full_resource.url({"id": row["id"] + 1000 * missing})
        patches.append(Request("PATCH", url, full_resource.change(), {"if-match": '"7-json"'} if stale else {}))
    responses = await asyncio.gather(*map(full_resource.send, patches))
    assert [response.status_code for response in responses] == [(200, 412, 404)[n % 3] for n in range(AT_ONCE)]
    assert [row["version"] for row in await full_resource.everything()] == [2 - (n % 3 > 0) for n in range(AT_ONCE)]


async def test_batches_that_change_the_same_rows_in_other_orders_all_succeed(full_resource: ResourceClient) -> None:
    rows = await full_resource.create(count=20)
    forward = [full_resource.change(id=row["id"]) for row in rows]
    batches = [Request("PATCH", full_resource.path, forward[:: 1 if n % 2 else -1]) for n in range(16)]
    singles = [Request("PATCH", full_resource.url(row), full_resource.change()) for row in rows]
    responses = await asyncio.gather(*map(full_resource.send, [*batches, *singles]))
    assert statuses(responses) == {200: 36}
    assert {row["version"] for row in await full_resource.everything()} == {18}
