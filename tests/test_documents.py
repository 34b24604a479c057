"""What is written about the code is what the code does."""

from tests.documents import README, written


def test_the_readme_says_what_the_code_does() -> None:
    page = README.read_text(encoding="utf-8")
    assert page == written(page)
