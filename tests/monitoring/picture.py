"""The dashboard's picture: `python -m tests.monitoring.picture` draws docs/images/dashboard.svg of a run under load.

It is no screenshot: the panels, their places, units and queries are those of the dashboard, the values those of a real
Prometheus, and the drawing is our own. The run takes two minutes: few clients, many, a worker that is killed, few
again.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.report.svg import picture, text
from db.engines.engine import open_database
from db.migrate import upgrade
from tests.monitoring import load
from tests.monitoring.dashboard import panels, put_in, read
from tests.monitoring.panels import COLUMN, GAP, UNIT, Course, panel, row
from tests.monitoring.rules import ROOT
from tests.monitoring.watched import Watched, watched
from tests.support.postgres import PostgresServer
from tests.support.prometheus import Series

FILE = ROOT / "docs" / "images" / "dashboard.svg"
STYLE = Path(__file__).with_suffix(".css")
MARGIN, HEAD = 16, 68
COLUMNS = 24
STEP_S = 1.5
# From when to when, in seconds, how many clients come; and when a worker is killed.
CROWDS = ((0, 120, 4), (30, 90, 12), (45, 75, 16))
KILLED_S = 60
LABEL = re.compile(r"{{(\w+)}}")


def main() -> None:
    """Run, and draw."""
    with PostgresServer() as server:
        url = server.url()
        asyncio.run(migrate(url))
        with watched(url) as found:
            asyncio.run(run(found))
            drawn = draw(read(), found)
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(drawn, encoding="utf-8")


async def migrate(url: str) -> None:
    """Make the tables."""
    database = open_database(url)
    try:
        await upgrade(database)
    finally:
        await database.close()


async def run(found: Watched) -> None:
    """Put a service under a load that rises and falls, and kill a worker in between."""
    asyncio.get_running_loop().call_later(KILLED_S, found.service.workers[0].kill)
    habits = [load.visit] * 4 + [load.err]
    await asyncio.gather(*(come(found.service.url, *one, habits) for one in CROWDS))


async def come(url: str, start_s: float, end_s: float, clients: int, habits: Sequence[load.Habit]) -> None:
    """Let so many clients come then, and go then."""
    loop = asyncio.get_running_loop()
    end = loop.time() + end_s
    await asyncio.sleep(start_s)
    await load.crowd(url, lambda: loop.time() > end, *habits, clients=clients)


def draw(dashboard: Any, found: Watched) -> str:
    """Return the dashboard as SVG."""
    end_s = time.time() - found.began
    drawn = [
        row(each) if each["type"] == "row" else panel(each, courses(each, found), end_s) for each in dashboard["panels"]
    ]
    title = text(dashboard["title"], MARGIN, 24, class_="head")
    notes = "".join(
        text(words, MARGIN, 42 + 15 * number, class_="note") for number, words in enumerate(NOTES.strip().splitlines())
    )
    height = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in panels(dashboard)) * UNIT
    moved = f'<g transform="translate({MARGIN} {HEAD})">{"".join(drawn)}</g>'
    style = f'<style>{STYLE.read_text(encoding="utf-8")}</style><rect width="100%" height="100%" fill="var(--paper)"/>'
    size = COLUMNS * COLUMN - GAP + 2 * MARGIN, height + HEAD + MARGIN
    return picture(*size, style, title, notes, moved, label="The dashboard, with the data of a run under load") + "\n"


NOTES = """
Drawn, and no screenshot: the panels of deploy/grafana/dashboards/itemsvc.json, and what a Prometheus has for them.
Two workers on PostgreSQL under a load of every verb, with mistakes, that rises and falls; one is killed after 60 s.
"""


def courses(described: Any, found: Watched) -> list[Course]:
    """Return the series of a panel, by their names."""
    return [
        Course(named(target["legendFormat"], series), [(at - found.began, value) for at, value in series.points])
        for target in described["targets"]
        for series in found.history(put_in(target["expr"], found.variables), STEP_S)
    ]


def named(legend: str, series: Series) -> str:
    """Return what a legend calls a series."""
    return LABEL.sub(lambda match: series.labels.get(match[1], ""), legend)


if __name__ == "__main__":
    main()
