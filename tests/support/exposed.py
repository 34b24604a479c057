"""What a service exposes at /metrics, as Prometheus reads it."""

from collections.abc import Iterator

import httpx
from prometheus_client.parser import text_string_to_metric_families

PREFIX = "itemsvc_"


class Exposed:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        families = list(text_string_to_metric_families(text))
        self.kinds = {family.name: family.type for family in families}
        self.samples = {
            (sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }
        assert len(self.samples) == sum(len(family.samples) for family in families), "a series is there twice"

    def __getitem__(self, name: str) -> float:
        """Return the sum of all series of a name."""
        return self.sum(name)

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of the series that have these labels."""
        return sum(value for found, value in self.of(name) if found.items() >= labels.items())

    def of(self, name: str) -> Iterator[tuple[dict[str, str], float]]:
        """Yield the labels and the value of every series of a name."""
        return ((dict(labels), value) for (found, labels), value in self.samples.items() if found == name)

    @property
    def counters(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """The samples that never go back."""
        counting = {name.removeprefix(PREFIX) for name, kind in self.kinds.items() if kind in {"counter", "histogram"}}
        endings = ("_total", "_bucket", "_count", "_sum")
        return {
            key: value
            for key, value in self.samples.items()
            if any(key[0] == f"{name}{ending}" for name in counting for ending in endings)
        }


async def exposed(client: httpx.AsyncClient) -> Exposed:
    """Scrape a service."""
    response = await client.get("/metrics")
    assert response.status_code == 200, response.text
    return Exposed(response.text)
