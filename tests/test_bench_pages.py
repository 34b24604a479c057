"""The pages of the benchmark: everybody is asked for the same ones, and who gives others does not take part."""

from functools import partial
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bench import postgres, sqlite
from bench.builds import CannotBuildError
from bench.client import Client
from bench.contest import Contest, Server
from bench.contestants import CONTESTANTS, OURS
from bench.database import Database, migrate
from bench.drivers.found import find_driver
from bench.growth import drop_from_page_cache, measured, parser
from bench.pages import ORDERS, by_values, check_pages, choose, spacing
from bench.processes import pss_bytes, temporary_folder
from bench.record import Part, Plan
from bench.responses import Item, WrongResponseError, decoded
from bench.rows import values
from bench.workloads import GROWTH_WORKLOADS, PAGE, POST
from tests.conftest import POSTGRESQL

ROWS = 1000
PEERS = {"sqlite": [OURS, "fastapi"], POSTGRESQL: [OURS, "fastapi", "blacksheep", "go", "fastify"]}


@pytest.fixture
def database(backend: str, database_url: str) -> Database:
    migrate(database_url)
    reset = postgres._reset if backend == POSTGRESQL else sqlite._reset
    url = database_url.replace(" ", "%20")  # Go's parser of URLs refuses a space in a password
    return Database(url, "", partial(reset, url))


def contest(backend: str, database: Database, contestant: str, folder: Path) -> Contest:
    part = Part(
        database="postgres" if backend == POSTGRESQL else backend, workers=1, contestants=[contestant], cells={}
    )
    plan = Plan(parts=[part], rounds=1, duration_seconds=1, warm_up_seconds=1, rows=ROWS)
    return Contest(plan, part, database, find_driver(), folder)


def read(server: Server, path: str) -> list[Item]:
    with Client(server.target) as client:
        status, content = client.ask("GET", path)
    assert status == 200, content
    return decoded(content, list[Item])


def test_rows_are_those_that_python_computes(database: Database, backend: str, tmp_path: Path) -> None:
    contested = contest(backend, database, OURS, tmp_path)
    contested.fill()
    with contested.everybody() as (server,):
        for item in read(server, "/items?limit=1000&order=price"):
            assert values(item.id).items() <= {name: getattr(item, name) for name in item.__struct_fields__}.items()


@pytest.mark.parametrize("contestant", PEERS[POSTGRESQL])
def test_every_contestant_gives_the_same_pages(
    contestant: str, database: Database, backend: str, tmp_path: Path
) -> None:
    if contestant not in PEERS[backend]:
        pytest.skip(f"{contestant} does not take part on {backend}")
    (entry,) = [entry for entry in CONTESTANTS if entry.key == contestant]
    if entry.build:
        try:
            entry.build()
        except CannotBuildError as error:
            pytest.skip(str(error))
    contested = contest(backend, database, contestant, tmp_path)
    contested.fill()
    with contested.everybody() as (server,):
        contested.examine(server)
        ((_, workload),) = contested.prepare(PAGE, [server])
        paths = Path(workload.path).read_text().splitlines()
        assert len(paths) == 3 * (ROWS - 100)
        ids = {tuple(item.id for item in read(server, path)) for path in paths[:: ROWS // 4]}
        assert len(ids) == len(paths[:: ROWS // 4])
        assert all(len(page) == 100 for page in ids)
        assert pss_bytes(server.processes) > 2**20


def test_a_contestant_with_other_pages_is_noticed(database: Database, backend: str, tmp_path: Path) -> None:
    contested = contest(backend, database, "fastapi", tmp_path)
    contested.fill()
    starts = choose(database, ROWS, 10)
    with contested.everybody() as (server,):
        paths = by_values(server.target, starts, spacing(ROWS, 10))
        check_pages(database, server.target, starts, paths)
        for order in ORDERS:
            wrong = {**paths, order: [*paths[order][1:], paths[order][0]]}
            with pytest.raises(WrongResponseError, match=order):
                check_pages(database, server.target, starts, wrong)


def test_a_table_is_filled_anew_when_somebody_has_changed_it(database: Database, backend: str, tmp_path: Path) -> None:
    contested = contest(backend, database, OURS, tmp_path)
    contested.fill()
    with contested.everybody() as (server,), Client(server.target) as client:
        for method, path in (("POST", "/items"), ("PUT", "/items/1")):
            assert client.ask(method, path, {"name": "other", "price": 1})[0] in {200, 201}
            contested.fill()
            assert database.count() == ROWS
            assert values(1).items() <= decoded_row(client).items()
    assert contested.rows(POST) == ROWS


def decoded_row(client: Client) -> dict[str, object]:
    item = decoded(client.ask("GET", "/items/1")[1], Item)
    return {name: getattr(item, name) for name in item.__struct_fields__}


def test_growth_asks_everything_warm_and_then_cold() -> None:
    line = ["--databases", "sqlite", "--rows", "300", "--rounds", "1", "--duration", "1"]
    growth = measured(parser().parse_args(line), Console(file=StringIO()))
    asked = [(point.sample.workload, point.cold) for point in growth.points]
    assert asked == [(workload.key, cold) for cold in (False, True) for workload in GROWTH_WORKLOADS]
    assert all(point.sample.load.responses and not point.sample.errors for point in growth.points)


def test_a_cluster_that_is_started_again_has_its_rows() -> None:
    with temporary_folder() as folder:
        with postgres.postgres(folder) as database:
            database.fill(10)
        drop_from_page_cache(folder)
        with postgres.postgres(folder) as database:
            assert database.count() == 10
