"""What is written about the code is what the code does."""

import re
from pathlib import Path

import pytest

from service.openapi.document import document
from service.routes import ROUTES
from service.server.connection_budget import connection_budget
from service.settings import Settings
from tests.documents import DOCS, PROBLEMS, ROOT, everything, section

SECURITY = DOCS / "security.md"
DEPLOYING = DOCS / "deploying.md"
EVERYTHING = everything()


@pytest.mark.parametrize("file", EVERYTHING, ids=lambda file: file.name)
def test_a_document_shows_what_the_code_does(file: Path) -> None:
    assert file.read_text(encoding="utf-8") == EVERYTHING[file]


def test_the_page_on_deploying_gives_how_many_connections_the_workers_hold() -> None:
    settings = Settings(database_url="postgresql+asyncpg://u@h/d", workers=2)
    text = " ".join(DEPLOYING.read_text(encoding="utf-8").split())
    assert connection_budget(settings) in text
    assert settings.batch_connections + settings.pool_size == 10
    assert "A worker opens at most ten connections, however many resources there are" in text


def test_every_code_of_a_problem_has_its_section_and_no_other_code_has_one() -> None:
    codes = document(ROUTES)["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    sections = re.findall(r"^### (.+)$", PROBLEMS.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(sections) == sorted({section(code) for code in codes})


def test_every_test_that_the_page_on_security_names_is_there() -> None:
    named = set(re.findall(r"`(tests/[\w/]+[.]py)::(\w+)`", SECURITY.read_text(encoding="utf-8")))
    assert len(named) > 20
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (ROOT / file).read_text("utf-8")]
    assert missing == []


def test_every_risk_of_the_ten_has_a_control_and_a_test() -> None:
    row = r"^\| \*\*API(\d+)\*\* .* \| .+ \| .*`tests/.*::test_.*\|$"
    found = re.findall(row, SECURITY.read_text(encoding="utf-8"), re.MULTILINE)
    assert found == [str(number) for number in range(1, 11)]


def test_every_file_of_pins_is_audited() -> None:
    files = [*ROOT.glob("requirements*.txt"), *ROOT.glob("tests/*/requirements*.txt")]
    [audited] = re.findall(r"^REQUIREMENTS := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(audited.split()) == {file.relative_to(ROOT).as_posix() for file in files}
