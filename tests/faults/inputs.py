"""Hostile inputs: written by hand, and generated from the document."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests.faults.corpus import Case, corpus
from tests.support.serving import ROOT, ServiceProcess

AT_ONCE = 16
LIMIT_S = 2
# After which a client that has sent a part gives up.
PATIENCE_S = 0.1
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
LAMP = {"name": "lamp", "price": 1.0, "in_stock": True}
GENERATED = re.compile(r"(\d+) generated, (\d+) passed")


class Outcome(NamedTuple):
    """What became of a case."""

    case: Case
    statuses: list[int]
    ended: bool


def send_corpus(database_url: str, times: int = 1) -> dict[str, Any]:
    """Send hostile bytes: none gets a failure for a response, or none at all, and afterwards all is well."""

    async def send_all() -> list[Outcome]:
        turn = asyncio.Semaphore(AT_ONCE)
        return await asyncio.gather(*(send(case, service, turn) for _ in range(times) for case in corpus()))

    with ServiceProcess(database_url) as service, service.client() as client:
        client.post("/items", json=[LAMP, LAMP])
        outcomes = asyncio.run(send_all())
        faults = [f"{outcome} hung" for outcome in outcomes if not outcome.ended]
        faults += [f"{outcome} failed" for outcome in outcomes if max(outcome.statuses, default=0) >= 500]
        faults += [line for line in service.log.splitlines() if '"level":"error"' in line or "Traceback" in line]
        lamp = client.post("/items", json=LAMP)
        assert client.get(lamp.headers["location"]).json() == lamp.json()
    assert not faults, "\n".join([f"{len(faults)} faults", *faults[:20]])
    statuses = Counter(status for outcome in outcomes for status in outcome.statuses)
    return {"inputs": len(outcomes), "5xx": 0, "hung": 0, "statuses": dict(sorted(statuses.items()))}


async def send(case: Case, service: ServiceProcess, turn: asyncio.Semaphore) -> Outcome:
    """Send a case, and read until the server closes the connection."""
    url = httpx.URL(service.url)
    received = bytearray()
    async with turn:
        reader, writer = await asyncio.open_connection(url.host, url.port)
        reading = asyncio.create_task(read_all(reader, received))
        writer.write(case.sent)
        if case.is_cut_off:
            await asyncio.wait([reading], timeout=PATIENCE_S)
            with suppress(OSError):  # the server has closed it
                writer.write_eof()
        await asyncio.wait([reading], timeout=LIMIT_S)
        ended = not reading.cancel()
        writer.close()
        await asyncio.wait([reading])
    return Outcome(case, [int(status) for status in STATUS.findall(received)], ended)


async def read_all(reader: asyncio.StreamReader, received: bytearray) -> None:
    """Read to the end, or to where the server gave up on us."""
    with suppress(ConnectionError):  # it did not read all that was sent
        while part := await reader.read(65_536):
            received += part


def generate(database_url: str, examples: int | None = None, limit_s: float = 3600) -> dict[str, Any]:
    """Run schemathesis with all of its checks, and so many examples for each operation, or as many as it is set to."""
    options = [] if examples is None else ["--max-examples", str(examples)]
    with ServiceProcess(database_url, ITEMSVC_ACCESS_LOG="true") as service:
        output = schemathesis(service.url, *options, limit_s=limit_s)
        lines = [json.loads(line) for line in service.log.splitlines() if line.startswith("{")]
    statuses = Counter(line["status"] for line in lines if line["message"] in {"request", "request failed"})
    failures = sum(count for status, count in statuses.items() if status >= 500)
    assert failures == 0, f"{failures} failures: {dict(statuses)}"
    generated = GENERATED.search(output)
    assert generated is not None, output
    return {"inputs": int(generated[1]), "5xx": 0, "hung": 0, "statuses": dict(sorted(statuses.items()))}


def schemathesis(url: str, *options: str, limit_s: float) -> str:
    """Return what schemathesis prints. Raises AssertionError if it finds anything."""
    program = Path(sys.executable).with_name("schemathesis")
    where = ["--config-file", "tests/schemathesis.toml", "run", f"{url}/openapi.json"]
    run = subprocess.run(
        [program, *where, "--checks", "all", "--no-color", *options],
        cwd=ROOT,
        # Coverage of the service is what is asked for, and takes its time.
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit_s,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    return run.stdout
