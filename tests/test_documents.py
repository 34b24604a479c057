"""What is written about the code is what the code does."""

from pathlib import Path

import pytest

from tests.documents import README, RELIABILITY, everything


@pytest.mark.parametrize("file", [README, RELIABILITY], ids=lambda file: file.name)
def test_a_document_says_what_the_code_does(file: Path) -> None:
    assert file.read_text(encoding="utf-8") == everything()[file]
