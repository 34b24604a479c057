"""Links of the documents, as they are read on a forge: files and anchors that are there."""

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, inline, links

HOST = re.compile(r"127\.0\.0\.1|localhost|([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}")
UNRESOLVED = re.compile(r"\]\[|\]\(")


def broken(page: Path, target: str) -> str:
    """Return what is wrong with a link, if anything; a host is not asked."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        fine = parts.scheme in {"http", "https"} and HOST.fullmatch(parts.hostname or "") and " " not in target
        return "" if fine else f"{target} is no URL"
    file = Path(os.path.normpath(page.parent / unquote(parts.path))) if parts.path else page
    if not file.is_relative_to(ROOT) or not file.is_file():
        return f"{target}: there is no such file"
    if parts.fragment and (file.suffix != ".md" or parts.fragment not in anchors(file)):
        return f"{target}: there is no such heading"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    assert [problem for target in links(page) if (problem := broken(page, target))] == []
    assert [token.content for token in inline(page) if token.type == "text" and UNRESOLVED.search(token.content)] == []


def test_the_start_page_of_the_documents_leads_to_all_of_them() -> None:
    start = ROOT / "docs" / "README.md"
    reached = {os.path.normpath(start.parent / urlsplit(target).path) for target in links(start)}
    assert {str(page) for page in start.parent.glob("*.md")} - {str(start)} <= reached
