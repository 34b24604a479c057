"""A schema that changes under load: the short form of tests/faults/schemas.py."""

import asyncio
from itertools import count
from typing import Any

import httpx
import pytest

from service.settings import Settings
from tests.faults.resources import RESOURCES, Body, Resource
from tests.faults.schemas import CHANGES, change_schemas
from tests.support.responses import PATIENT, execute, serving


def test_no_client_notices_that_the_schema_changes(database_url: str, backend: str) -> None:
    figures = change_schemas(database_url, 1, workers=1)
    assert figures["changes"] >= len(CHANGES[backend])
    assert figures["failures"] == 0


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("resource", RESOURCES, ids=str)
@pytest.mark.parametrize("coalesce", [True, False])
async def test_a_plan_that_a_column_of_another_type_has_made_worthless_is_made_anew(
    database_url: str, resource: Resource, coalesce: bool
) -> None:
    path, numbers = resource.path, count()

    def body() -> Body:
        number = next(numbers)
        return resource.body(f"lamp-{number}", number)

    def patch() -> Body:
        return {resource.updated: body()[resource.updated]}

    async with serving(Settings(database_url=database_url, coalesce=coalesce, **PATIENT)) as client:
        id = (await client.post(path, json=body())).json()["id"]
        here = f"{path}/{id}"

        async def ask(number: int) -> list[httpx.Response]:
            keyed: dict[str, Any] = {"headers": {"idempotency-key": f"k-{number}"}}
            return [
                await client.get(here),
                await client.get(f"{path}?order={resource.named_by}"),
                await client.get(f"{path}?ids={id}"),
                await client.post(path, json=body()),
                await client.post(path, json=body(), **keyed),
                await client.post(path, json=[body()]),
                await client.patch(here, json=patch()),
                await client.patch(here, json=patch(), **keyed),
                await client.patch(path, json=[{"id": id, **patch()}]),
                await client.put(here, json=body(), **keyed),
            ]

        column = f"ALTER TABLE {resource.collection.table.name} ALTER COLUMN name"
        for number, size in enumerate((256, 255, 300)):
            await asyncio.gather(*(ask(10 * number + one) for one in range(4)))  # everything is prepared everywhere
            await execute(database_url, f'{column} TYPE varchar({size}) COLLATE "C"')
            responses = await ask(10 * number + 9)
            assert {response.status_code for response in responses} <= {200, 201}
        version = (await client.get(here)).json()["version"]
        assert version == 1 + 3 * 5 * 4  # each of the four updates counted once
