from datetime import UTC, datetime
from html import unescape
from io import StringIO
from pathlib import Path
from typing import cast
from xml.etree import ElementTree as ET

import msgspec
import pytest
from msgspec.structs import fields
from rich.console import Console

from bench import builds
from bench.__main__ import build
from bench.arguments import parser, plan
from bench.contestants import BASELINE, CONTESTANTS, OURS
from bench.drivers import pgbench, wrk
from bench.drivers.driver import Load
from bench.presets import PRESETS, answerable, narrowed, short
from bench.record import Growth, Part, Plan, Point, Run, Sample
from bench.report.files import publish
from bench.report.medians import Key, Ratios, figures, grown
from bench.report.page import page
from bench.report.plots import MAIN
from bench.report.tables import OVERVIEW, SEMANTICS, detailed, summary
from bench.semantics import Semantics
from bench.terminal import NobodyAnswersError
from bench.workloads import GET, GROWTH_WORKLOADS, PAGE, WORKLOADS

PEERS = Path("bench/peers")
LEFT_OUT = {"go", "go-default", "fastify"}


def sample(contestant: str, rate: int, number: int = 1, workload: str = GET.key, connections: int = 64) -> Sample:
    return Sample(
        database="postgres",
        round=number,
        contestant=contestant,
        workload=workload,
        connections=connections,
        load=Load(responses=rate, failures=0, breaks=0, seconds=1.0, p50_ms=64 / rate, p99_ms=640 / rate),
        lost_writes=0,
        cpu_seconds=1.5,
        pss_bytes=50 * 2**20,
    )


@pytest.fixture
def run() -> Run:
    """Make up a contest of two, one of whom is ten times as fast."""
    part = Part(database="postgres", workers=2, contestants=[OURS, BASELINE], cells={GET.key: [1, 64]})
    plan = Plan(parts=[part], rounds=3, duration_seconds=1, warm_up_seconds=1, rows=1000)
    rounds = [
        sample(contestant, rate + 10 * number, number, connections=connections)
        for number in (3, 1, 2)
        for connections in (1, 64)
        for contestant, rate in ((OURS, 9980), (BASELINE, 980))
    ]
    versions = {"Python": "3.13"}
    return Run(
        started=datetime(2026, 1, 2, tzinfo=UTC), plan=plan, machine={"cores": "2"}, versions=versions, samples=rounds
    )


def test_the_figure_of_a_cell_is_the_median_of_its_rounds(run: Run) -> None:
    figure = figures(run)[Key("postgres", GET.key, 64, OURS)]
    assert (figure.rate_min, figure.rate, figure.rate_max) == (9990, 10_000, 10_010)
    assert figure.cpu_us == pytest.approx(150)


def test_the_readme_shows_rates_with_multiples_of_the_baseline_and_percentiles(run: Run) -> None:
    assert "| this service | 10,000 (10.0×) | 10,000 (10.0×) |" in summary(run)
    assert "| this service | 0.0064 / 0.064 | 0.0064 / 0.064 |" in summary(run)


def test_what_every_contestant_does_stands_beside_the_figures(run: Run) -> None:
    (ours,) = [entry for entry in CONTESTANTS if entry.key == OURS]
    for written in (summary(run), detailed(run), page(run, None)):
        assert ours.semantics.statements in unescape(written)
        assert "Granian, 2 processes" in written
    assert all(getattr(entry.semantics, name) for entry in CONTESTANTS for name in SEMANTICS)
    assert list(SEMANTICS) == [field.name for field in fields(Semantics)]


def test_the_page_that_is_another_one_each_time_is_shown_first() -> None:
    assert OVERVIEW[0] == (PAGE, 64)
    assert MAIN[0] == PAGE
    for preset in PRESETS.values():
        assert all(PAGE.key in part.cells for part in preset().parts)


def test_figures_of_questions_that_nobody_asks_any_more_are_left_out(run: Run) -> None:
    asked = [sample(OURS, 1000, workload=workload, connections=1) for workload in ("deep-page", GET.key)]
    points = [Point(rows=1000, sample=each) for each in asked]
    growth = Growth(started=run.started, rounds=1, duration_seconds=1, machine={}, versions={}, points=points)
    assert [key.workload for key in grown(growth)] == [GET.key]


def test_multiples_are_those_of_each_round(run: Run) -> None:
    slow_minute = [sample(OURS, 500, number=4), sample(BASELINE, 40, number=4), sample(OURS, 999, number=5)]
    run.samples.extend(slow_minute)
    ours = Key("postgres", GET.key, 64, OURS)
    expected = (10_000 / 1000 + 9990 / 990) / 2  # of 9.9, 10, 10.1 and 12.5; the fifth round has nobody to compare with
    assert Ratios(run).median(ours, BASELINE) == pytest.approx(expected)
    assert figures(run)[ours].times == pytest.approx(expected)
    assert Ratios(run).median(ours, "nobody") == 0


def test_the_page_needs_nothing_from_elsewhere(run: Run) -> None:
    points = [
        Point(rows=rows, sample=sample(OURS, 1000, workload=workload.key, connections=1), cold=cold)
        for rows in (1000, 10_000_000)
        for workload in GROWTH_WORKLOADS
        for cold in (False, True)
    ]
    growth = Growth(started=run.started, rounds=1, duration_seconds=1, machine={}, versions={}, points=points)
    written = page(run, growth)
    assert f"{PAGE.title}, cold" in written
    assert written.replace('xmlns="http://www.w3.org/2000/svg"', "").count("://") == 0
    assert "<script" not in written


def test_a_run_is_published_beside_its_raw_figures(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_bytes(msgspec.json.encode(run))
    published = publish(file)
    assert {path.name for path in published} == {"run.md", "run.svg", "run.html"}
    assert ET.parse(tmp_path / "run.svg").getroot().tag.endswith("svg")  # noqa: S314 - it was made just now


def test_every_workload_has_its_scripts() -> None:
    scripts = {workload.script for workload in (*WORKLOADS, *GROWTH_WORKLOADS)}
    questions = wrk.SCRIPTS.with_name("questions.py").read_text(encoding="utf-8")
    assert scripts.issubset(file.stem for file in wrk.SCRIPTS.glob("*.lua"))
    assert all(f'"{script}": ' in questions for script in scripts)


def test_the_database_alone_is_asked_only_what_it_has_a_script_for() -> None:
    (alone,) = [entry for entry in CONTESTANTS if not entry.serves]
    asked = {entry.script for entry in WORKLOADS if entry.key not in alone.leaves_out}
    assert asked == {script.stem for script in pgbench.SCRIPTS.glob("*.sql")}


def test_every_peer_takes_part() -> None:
    served = {argument for entry in CONTESTANTS for argument in entry.arguments if argument.startswith("bench.peers.")}
    files = {f"bench.peers.{file.stem}:app" for file in PEERS.glob("*.py")}
    assert served == files - {"bench.peers.__init__:app", "bench.peers.models:app"}
    built = {entry.build.__name__ for entry in CONTESTANTS if entry.build}
    assert built == {folder.name for folder in PEERS.iterdir() if folder.is_dir() and folder.name != "__pycache__"}


def test_who_cannot_be_built_is_left_out_with_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(builds, "WHEELS", "nowhere")
    for build_one in (builds.go_pgx, builds.fastify):
        build_one.cache_clear()
    console = Console(file=StringIO(), width=500)
    plan, versions = build(short(), console)
    assert not versions
    assert all(LEFT_OUT.isdisjoint(part.contestants) for part in plan.parts)
    assert plan.parts[0].contestants == [key for key in short().parts[0].contestants if key not in LEFT_OUT]
    lines = cast("StringIO", console.file).getvalue()
    assert "Go net/http + pgx is left out: there is no go on the PATH; on Debian, apt-get install golang-go" in lines
    assert "Fastify + postgres.js is left out: there is no node on the PATH" in lines


@pytest.mark.parametrize(
    "named", [["--databases", "sqlite", "--contestants", "go"], ["--contestants", "pgbench", "--workloads", "page"]]
)
def test_a_contest_of_nobody_is_refused_with_a_line(named: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # nothing is built
    with pytest.raises(NobodyAnswersError, match="Nobody is left to ask"):
        build(plan(parser().parse_args(named)), Console(file=StringIO()))


def test_a_workload_that_nobody_serves_is_left_out() -> None:
    part = narrowed(short().parts[0], contestants=["pgbench"], workloads=["page", "get"])
    assert [*answerable(part).cells] == ["get"]


def test_presets_ask_only_those_who_serve_the_workload() -> None:
    for part in [part for preset in PRESETS.values() for part in preset().parts]:
        applicants = {entry.key for entry in CONTESTANTS if part.database in entry.databases}
        assert applicants.issuperset(part.contestants)


def test_what_the_command_line_names_replaces_what_the_preset_has() -> None:
    on_sqlite = short().parts[1]
    part = narrowed(on_sqlite, contestants=["litestar", "pgbench"], workloads=["put"], connections=[3, 5])
    assert (part.contestants, part.cells) == (["litestar"], {"put": [3, 5]})
