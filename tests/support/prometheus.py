"""A Prometheus of the tests' own, configured as deploy/prometheus/prometheus.yml, but for its targets and its pace."""

import shutil
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

import httpx
import yaml

from tests.support.ports import free_port
from tests.support.postgres import HOST, LIMIT_S
from tests.support.waiting import wait_until

BINARY = shutil.which("prometheus") or ""
PROMTOOL = shutil.which("promtool") or ""
CONFIGURATION = Path(__file__).parent.parent.parent / "deploy" / "prometheus" / "prometheus.yml"

INTERVAL = "1s"  # a scrape that takes longer, as it may on a busy machine, is a failed one


class Series(NamedTuple):
    """What a query returns: for each label set values by time, those that are numbers."""

    labels: Mapping[str, str]
    points: list[tuple[float, float]]


class PrometheusServer:
    """Prometheus with its database in a folder of its own, there from entering the block until leaving it."""

    def __init__(self, *targets: str) -> None:
        self._targets = targets
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            folder = Path(opened.enter_context(TemporaryDirectory()))
            (folder / "prometheus.yml").write_text(yaml.safe_dump(self._configuration()))
            address = f"{HOST}:{free_port()}"
            self._log = folder / "log"
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [
                        BINARY,
                        f"--config.file={folder / 'prometheus.yml'}",
                        f"--storage.tsdb.path={folder / 'data'}",
                        f"--web.listen-address={address}",
                    ],
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for us
                )
            opened.callback(self._stop)
            self._client = opened.enter_context(httpx.Client(base_url=f"http://{address}", timeout=LIMIT_S))
            wait_until(lambda: self._process.poll() is not None or self._is_ready())
            assert self._process.poll() is None, self._log.read_text()
            self._resources = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def query(self, expression: str) -> list[Series]:
        """Return what an expression is now. Raise an AssertionError if Prometheus cannot evaluate it."""
        return _series(self.get("query", query=expression), "value")

    def query_range(self, expression: str, start: float, end: float, step_s: float) -> list[Series]:
        """Return what an expression was from start to end. Raise as `query` does."""
        found = self.get("query_range", query=expression, start=start, end=end, step=step_s)
        return _series(found, "values")

    def get(self, path: str, **parameters: Any) -> Any:
        """Return what the HTTP API has at a path."""
        response = self._client.get(f"/api/v1/{path}", params=parameters)
        assert response.is_success, (parameters, response.text)
        return response.json()["data"]

    def _is_ready(self) -> bool:
        try:
            return self._client.get("/-/ready").is_success
        except httpx.TransportError:
            return False

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait(LIMIT_S)

    def _configuration(self) -> Any:
        configuration = yaml.safe_load(CONFIGURATION.read_text(encoding="utf-8"))
        configuration["global"].update(scrape_interval=INTERVAL, evaluation_interval=INTERVAL)
        configuration["rule_files"] = [str(CONFIGURATION.parent / files) for files in configuration["rule_files"]]
        [scraped] = configuration["scrape_configs"]
        scraped["scrape_timeout"] = INTERVAL
        scraped["static_configs"] = [{"targets": list(self._targets)}]
        return configuration


def _series(data: Any, key: str) -> list[Series]:
    found = []
    for one in data["result"]:
        pairs = one[key] if key == "values" else [one[key]]
        points = [(time, float(value)) for time, value in pairs]
        found.append(Series(one["metric"], [point for point in points if isfinite(point[1])]))
    return [series for series in found if series.points]
