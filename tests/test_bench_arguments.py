"""The command line of the benchmark: what it refuses before anything starts, and where its figures go."""

from argparse import ArgumentParser
from pathlib import Path

import pytest

from bench import growth
from bench.arguments import ROWS_MIN, is_narrowed, parser

PARSERS = [parser(), growth.parser()]
each_parser = pytest.mark.parametrize("parser", PARSERS, ids=["bench", "growth"])


@each_parser
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (["--database", "sqlite"], "unrecognized arguments"),  # an abbreviation may be a typo
        (["--duration", "0.5"], "no whole number"),
        (["--rounds", "0"], "no whole number"),
        (["--output", "/proc/nobody/x.json"], "cannot be written"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_an_hour_is_spent(
    parser: ArgumentParser, line: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(line)
    assert reason in capsys.readouterr().err


def test_a_table_without_a_whole_page_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--rows", str(ROWS_MIN - 1)])
    assert f"at least {ROWS_MIN}" in capsys.readouterr().err
    assert parser().parse_args(["--rows", str(ROWS_MIN)]).rows == ROWS_MIN


@each_parser
def test_a_part_of_a_contest_does_not_replace_the_whole(parser: ArgumentParser, tmp_path: Path) -> None:
    assert not is_narrowed(parser.parse_args([]), parser)
    assert not is_narrowed(parser.parse_args(["--output", str(tmp_path / "x.json")]), parser)
    for line in (["--databases", "sqlite"], ["--rows", "1000"], ["--rounds", "7"], ["--duration", "7"]):
        assert is_narrowed(parser.parse_args(line), parser), line


def test_a_whole_preset_is_not_a_part() -> None:
    assert not is_narrowed(parser().parse_args(["--full"]), parser())
