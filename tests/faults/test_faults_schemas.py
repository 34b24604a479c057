"""A schema that changes under load: the short form of tests/faults/schemas.py."""

import asyncio
from typing import Any

import httpx
import pytest

from service.settings import Settings
from tests.faults.schemas import CHANGES, change_schemas
from tests.support.answers import PATIENT, added, execute, serving


def test_nobody_notices_that_the_schema_changes(database_url: str, backend: str) -> None:
    figures = change_schemas(database_url, 1, workers=1)
    assert figures["changes"] >= len(CHANGES[backend])
    assert figures["failures"] == 0


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("coalesce", [True, False])
async def test_a_plan_that_a_column_of_another_type_has_made_worthless_is_made_anew(
    database_url: str, coalesce: bool
) -> None:
    async with serving(Settings(database_url=database_url, coalesce=coalesce, **PATIENT)) as client:
        lamp = await added(client)
        here = f"/items/{lamp['id']}"

        async def ask(number: int) -> list[httpx.Response]:
            keyed: dict[str, Any] = {"headers": {"idempotency-key": f"k-{number}"}}
            return [
                await client.get(here),
                await client.get("/items?order=name"),
                await client.get(f"/items?ids={lamp['id']}"),
                await client.post("/items", json={"name": "lamp", "price": 1}),
                await client.post("/items", json={"name": "lamp", "price": 1}, **keyed),
                await client.post("/items", json=[{"name": "lamp", "price": 1}], **keyed | {"headers": {}}),
                await client.patch(here, json={"price": number}),
                await client.patch(here, json={"price": number}, **keyed),
                await client.patch("/items", json=[{"id": lamp["id"], "price": number}]),
                await client.put(here, json={"name": "lamp", "price": 1}, **keyed),
            ]

        for number, size in enumerate((256, 255, 300)):
            await asyncio.gather(*(ask(10 * number + one) for one in range(4)))  # everything is prepared everywhere
            await execute(database_url, f'ALTER TABLE items ALTER COLUMN name TYPE varchar({size}) COLLATE "C"')
            answers = await ask(10 * number + 9)
            assert {response.status_code for response in answers} <= {200, 201}
        version = (await client.get(here)).json()["version"]
        assert version == 1 + 3 * 5 * 4  # each of the four changes counted once
