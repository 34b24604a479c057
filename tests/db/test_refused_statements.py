"""What a database refuses for reasons of its own: whatever its code, no response is a plain 500."""

import asyncio

import asyncpg
import httpx
import pytest

from db.errors import CONNECTION_LOST, SQLSTATES, DatabaseError, error_class
from tests.support.responses import code, execute, problem

WARNINGS = ("00", "01", "02")  # these classes are no errors
CODES = sorted(
    {str(each.sqlstate) for each in vars(asyncpg.exceptions).values() if hasattr(each, "sqlstate")} - {"None"}
)
ERRORS = [each for each in CODES if not each.startswith(WARNINGS)]
STATUSES = {409, 422, 503, 504}

on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)

# Refuses a row with the code that is its name.
REFUSE = """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN
    IF NEW.name ~ '^[0-9A-Z]{5}$' THEN RAISE EXCEPTION 'as told' USING ERRCODE = NEW.name; END IF;
    RETURN NEW;
END$$"""
TRIGGER = "CREATE TRIGGER refuse BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION refuse()"


def item(name: str) -> dict[str, object]:
    return {"name": name, "price": 1}


@on_postgresql
async def test_no_code_of_postgresql_is_a_plain_500(client: httpx.AsyncClient, database_url: str) -> None:
    await execute(database_url, REFUSE, TRIGGER)
    assert len(ERRORS) > 200
    told = [each for each in ERRORS if not each.startswith((*CONNECTION_LOST, "40", "72", "25P02", "0A000"))]
    for sqlstate in told:
        bodies = [(item(sqlstate), {}), ([item("lamp"), item(sqlstate)], {"idempotency-key": sqlstate})]
        for body, headers in bodies:
            response = await client.post("/items", json=body, headers=headers)
            assert response.status_code in STATUSES, (sqlstate, response.text)
            assert "as told" not in response.text
    assert (await client.get("/items")).json() == []


@on_postgresql
@pytest.mark.parametrize("sqlstate", ["40001", "72000", "0A000", "25P04", "08006", "57P01"])
async def test_nor_is_one_after_which_a_write_is_tried_again(
    client: httpx.AsyncClient, database_url: str, sqlstate: str
) -> None:
    await execute(database_url, REFUSE, TRIGGER)
    for headers in ({}, {"idempotency-key": "k"}):
        response = await client.post("/items", json=item(sqlstate), headers=headers)
        assert problem(response)["status"] in STATUSES, (sqlstate, response.text)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_every_code_has_an_error_or_means_that_the_connection_is_lost(backend: str) -> None:  # noqa: ARG001
    for sqlstate in {*ERRORS, *(each for each in SQLSTATES if len(each) == 5)}:
        error = type("Error", (Exception,), {"sqlstate": sqlstate})()
        found = error_class(error)
        assert sqlstate.startswith(CONNECTION_LOST) if found is None else issubclass(found, DatabaseError)


@on_postgresql
async def test_a_row_that_a_trigger_fails_at_fails_alone(client: httpx.AsyncClient, database_url: str) -> None:
    """Whatever the trigger's error is, the other requests of the batch are served."""
    await execute(database_url, REFUSE, TRIGGER)
    names = ["lamp", "P0004", "desk", "P0001", "42501", "chair"]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.post("/items", json=item(name))) for name in names]
    assert [task.result().status_code for task in tasks] == [201, 503, 201, 422, 503, 201]


@on_sqlite
async def test_a_trigger_of_sqlite_refuses_a_row(client: httpx.AsyncClient, database_url: str) -> None:
    raised = "BEGIN SELECT RAISE(ABORT, 'as told'); END"
    await execute(database_url, f"CREATE TRIGGER refuse BEFORE INSERT ON items {raised}")
    assert code(await client.post("/items", json=item("lamp"))) == (422, "refused")


async def test_tables_that_are_gone_are_503_and_not_500(client: httpx.AsyncClient, database_url: str) -> None:
    renamed = [f"ALTER TABLE {name} RENAME TO {name}_gone" for name in ("items", "idempotency_keys")]
    await execute(database_url, *renamed)
    key = {"idempotency-key": "k"}
    for body in (item("lamp"), [item("lamp")]):
        assert code(await client.post("/items", json=body)) == (503, "unavailable")
        assert code(await client.post("/items", json=body, headers=key)) == (503, "unavailable")
    for url in ("/items/1", "/items", "/items?ids=1", "/items?count=true"):
        assert code(await client.get(url)) == (503, "unavailable"), url
    assert code(await client.delete("/items/1")) == (503, "unavailable")
    assert (await client.get("/livez")).status_code == 200


async def test_a_revision_that_is_gone_makes_the_service_not_ready(
    client: httpx.AsyncClient, database_url: str
) -> None:
    await execute(database_url, "DROP TABLE alembic_version")
    assert code(await client.get("/readyz")) == (503, "not-ready")


@on_postgresql
async def test_statements_are_prepared_anew_after_a_migration(client: httpx.AsyncClient, database_url: str) -> None:
    for type_ in ("varchar(256)", "varchar(255)"):  # PostgreSQL then refuses what was prepared before (0A000)
        created = await client.post("/items", json=item("lamp"))
        path = f"/items/{created.json()['id']}"
        assert (await client.put(path, json=item("desk"))).status_code == 200
        assert (await client.get(path)).json()["name"] == "desk"
        await execute(database_url, f'ALTER TABLE items ALTER COLUMN name TYPE {type_} COLLATE "C"')
        read, replaced = await client.get(path), await client.put(path, json=item("chair"))
        assert (read.json()["name"], replaced.json()["name"]) == ("desk", "chair")
