"""What is written about the code is what the code does."""

from pathlib import Path

import pytest

from service.server.supervisor import connection_budget
from service.settings import Settings
from tests.documents import OPERATIONS, README, RELIABILITY, everything


@pytest.mark.parametrize("file", [README, RELIABILITY, OPERATIONS], ids=lambda file: file.name)
def test_a_document_shows_what_the_code_does(file: Path) -> None:
    assert file.read_text(encoding="utf-8") == everything()[file]


def test_the_readme_gives_how_many_connections_the_workers_hold() -> None:
    settings = Settings(database_url="postgresql+asyncpg://u@h/d", workers=2)
    text = " ".join(README.read_text(encoding="utf-8").split())
    assert connection_budget(settings) in text
    assert settings.batch_connections + settings.pool_size == 10
    assert "A worker opens at most ten connections, however many resources there are" in text
