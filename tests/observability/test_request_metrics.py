"""What is counted of requests: each once, by operation and status, whatever clients send."""

import asyncio

import httpx
import pytest
from msgspec.structs import replace

from service.settings import Settings
from tests.support.exposed import exposed
from tests.support.people import serving_people
from tests.support.responses import code, create_item, problem, serving

LAMP = {"name": "lamp", "price": 9.5}
SQLITE = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


async def test_requests_are_counted_by_route_method_and_status(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    path = f"/items/{item['id']}"
    for method, url in [("GET", path), ("GET", path), ("HEAD", path), ("GET", "/items/999"), ("GET", "/items")]:
        await client.request(method, url)
    await client.post("/items", json={"name": ""})
    found = await exposed(client)
    assert {
        (labels["method"], labels["route"], labels["status"]): value
        for labels, value in found.of("requests_total")
        if value
    } == {
        ("POST", "/items", "201"): 1,
        ("POST", "/items", "422"): 1,
        ("GET", "/items/{id}", "200"): 2,
        ("GET", "/items/{id}", "404"): 1,
        ("HEAD", "/items/{id}", "200"): 1,
        ("GET", "/items", "200"): 1,
    }


async def test_the_buckets_of_a_histogram_add_up_to_the_requests(client: httpx.AsyncClient) -> None:
    await asyncio.gather(*(create_item(client) for _ in range(20)))
    found = await exposed(client)
    buckets = {
        float(labels["le"]): value
        for labels, value in found.of("request_duration_seconds_bucket")
        if labels["method"] == "POST"
    }
    counts = [buckets[bound] for bound in sorted(buckets)]
    assert counts == sorted(counts)
    assert counts[-1] == found.sum("request_duration_seconds_count", method="POST") == 20
    assert 0 < found.sum("request_duration_seconds_sum", method="POST") < 20 * 120


@SQLITE
async def test_whatever_clients_send_the_series_are_as_many(client: httpx.AsyncClient) -> None:
    await client.get("/nowhere")
    await client.request("BREW", "/items")
    before = await exposed(client)
    for number in range(200):
        await client.request(f"BREW{number}", f"/nowhere/{number}")
        await client.request(f"BREW{number}", "/items")
    after = await exposed(client)
    new = {dict(labels).get("route") for _, labels in after.samples.keys() - before.samples.keys()}
    assert new <= {"/metrics"}
    assert after.sum("requests_total", route="other", method="other", status="404") == 201
    assert after.sum("requests_total", route="/items", method="other", status="405") == 201


async def test_a_request_whose_client_leaves_is_counted_without_a_status(settings: Settings) -> None:
    async with serving(settings) as client:
        leaving = [asyncio.create_task(client.post("/items", json=LAMP)) for _ in range(5)]
        await asyncio.sleep(0)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        found = await exposed(client)
    assert found.sum("requests_total", method="POST", status="none") == 5


@SQLITE
@pytest.mark.parametrize("settings", [{"requests_max": 1}], indirect=True)
async def test_a_request_over_the_worker_s_limit_is_shed(client: httpx.AsyncClient) -> None:
    responses = await asyncio.gather(*(client.get("/items") for _ in range(5)))
    refused = [response for response in responses if response.status_code == 503]
    assert refused
    assert {code(response) for response in refused} == {(503, "overloaded")}
    found = await exposed(client)
    assert found.sum("requests_shed_total", reason="requests_max") == len(refused)
    assert found.sum("requests_total", route="other", status="503") == len(refused)


@pytest.mark.parametrize("settings", [{"queue_length_max": 1, "batch_size_max": 1}], indirect=True)
async def test_a_request_over_a_queue_s_limit_is_shed(client: httpx.AsyncClient) -> None:
    responses = await asyncio.gather(*(client.post("/items", json=LAMP) for _ in range(10)))
    refused = [problem(response)["code"] for response in responses if response.status_code != 201]
    assert set(refused) == {"overloaded"}
    assert (await exposed(client)).sum("requests_shed_total", reason="queue_length") == len(refused)


async def test_a_deadline_that_is_over_is_counted(client: httpx.AsyncClient) -> None:
    response = await client.post("/items", json=[LAMP] * 1000, headers={"X-Request-Timeout": "0.001"})
    assert response.status_code == 504
    assert (await exposed(client))["deadlines_exceeded_total"] == 1


async def test_a_repeat_under_a_key_is_a_replay(client: httpx.AsyncClient) -> None:
    for _ in range(3):
        response = await client.post("/items", json=LAMP, headers={"Idempotency-Key": "once"})
        assert response.status_code == 201
    found = await exposed(client)
    assert found["replays_total"] == 2
    assert found.sum("requests_total", method="POST", route="/items", status="201") == 3


@SQLITE
async def test_probes_are_requests_as_any_other(client: httpx.AsyncClient) -> None:
    await client.get("/livez")
    await exposed(client)
    found = await exposed(client)
    assert found.sum("requests_total", route="/livez", status="200") == 1
    assert found.sum("requests_total", route="/metrics", status="200") == 1


@SQLITE
async def test_metrics_come_as_openmetrics_to_whoever_asks(client: httpx.AsyncClient) -> None:
    response = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert response.text.endswith("# EOF\n")
    plain = await client.get("/metrics?cache=buster", headers={"Accept": "image/png"})
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert (await client.head("/metrics")).content == b""
    assert code(await client.post("/metrics")) == (405, "method-not-allowed")


@SQLITE
async def test_without_metrics_there_is_no_page_and_all_else_is_served(settings: Settings) -> None:
    async with serving(replace(settings, metrics=False)) as client:
        await create_item(client)
        for _ in range(2):
            await client.post("/items", json=LAMP, headers={"Idempotency-Key": "once"})
        assert code(await client.get("/metrics")) == (404, "no-such-path")


async def test_with_authentication_the_metrics_are_for_admins(settings: Settings) -> None:
    async with serving_people(settings) as people:
        assert code(await people.client.get("/metrics")) == (401, "unauthenticated")
        assert code(await people.send("reader", "GET", "/metrics")) == (403, "forbidden")
        assert (await people.send("admin", "GET", "/metrics")).status_code == 200
