"""The documents as a site: everything in it is there, and nothing comes from elsewhere."""

import re
import subprocess
import sys
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import PAGES, ROOT

LOADED = {
    "audio": "src",
    "iframe": "src",
    "img": "src",
    "link": "href",
    "script": "src",
    "source": "src",
    "video": "src",
}
IMPORTED = re.compile(r"(?:url\(|@import)\s*[\"']?(?!data:)([^\"')\s]+)")


class Page(HTMLParser):
    """What a page refers to, what it loads, and its anchors."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.references: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value is not None}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        self.references += [values[name] for name in ("href", "src") if name in values]
        self.loaded += [values[LOADED[tag]]] if LOADED.get(tag) in values else []


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Build a site as `make docs` does."""
    options = ["-qW", "--keep-going", "-c", str(ROOT / "docs"), "-d", str(target / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, str(source), str(target / "site")]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the site."""
    folder = tmp_path_factory.mktemp("documents")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """Return every page of the site."""
    return {file: Page(file) for file in site.rglob("*.html")}


def test_every_document_is_a_page_of_the_site(site: Path) -> None:
    expected = [site / page.relative_to(ROOT).with_suffix(".html") for page in PAGES]
    assert [page.name for page in expected if not page.exists()] == []
    assert "README.html" in (site / "index.html").read_text(encoding="utf-8")


def test_every_reference_in_the_site_leads_to_a_file_and_an_anchor_that_are_there(pages: dict[Path, Page]) -> None:
    broken = defaultdict(set)
    for file, page in pages.items():
        for reference in page.references:
            parts = urlsplit(reference)
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            is_here = not parts.scheme and not parts.netloc
            if is_here and (not target.is_file() or (parts.fragment and parts.fragment not in pages[target].anchors)):
                broken[file.name].add(reference)
    assert dict(broken) == {}


def test_the_site_loads_nothing_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    styles = [IMPORTED.findall(file.read_text(encoding="utf-8")) for file in site.rglob("*.css")]
    loaded = [*(each for page in pages.values() for each in page.loaded), *(each for one in styles for each in one)]
    assert len(loaded) > len(pages)
    assert [each for each in loaded if urlsplit(each).scheme or urlsplit(each).netloc] == []


def test_links_that_lead_nowhere_end_the_build(tmp_path: Path) -> None:
    links = ["[a](#there)", "[b](docs/there.md)", "[c](docs/other.md#there)", "![d](there.png)"]
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "other.md").write_text("# Other\n", encoding="utf-8")
    (tmp_path / "README.md").write_text("# Start\n" + "\n".join(["", *links]), encoding="utf-8")
    done = build(tmp_path, tmp_path / "build")
    assert done.returncode != 0
    found = [line for line in done.stderr.splitlines() if "README.md:" in line and "there" in line]
    assert len(found) == len(links), done.stderr
