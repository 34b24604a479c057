"""The page /docs as it is served: its files and their headers, and nothing of it where it is off."""

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from service import contradictions as rules
from service.contradictions import contradictions
from service.docs.page import OWN_FILES, PATH, SWAGGER_UI_FILES
from service.settings import Settings
from tests.support.responses import code

ROOT = Path(__file__).parent.parent.parent
FILES = [PATH, *(f"{PATH}/{name}" for name in (*OWN_FILES, *SWAGGER_UI_FILES))]
LINKED = re.compile('(?:href|src)="([^"]+)"')

on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
with_docs = pytest.mark.parametrize(("backend", "settings"), [("sqlite", {"docs": True})], indirect=True)


@with_docs
@pytest.mark.parametrize("path", FILES)
async def test_each_file_is_sent_with_headers_that_let_nothing_else_in(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert (response.status_code, bool(response.content)) == (200, True)
    policy = dict(part.split(maxsplit=1) for part in response.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        **dict.fromkeys(("base-uri", "form-action", "frame-ancestors"), "'none'"),
    }
    kinds = {"": "text/html", "html": "text/html", "css": "text/css", "js": "text/javascript", "png": "image/png"}
    assert response.headers["content-type"].split(";")[0] == kinds[path.rpartition(".")[2] if "." in path else ""]
    assert {
        name: response.headers[name]
        for name in ("cache-control", "referrer-policy", "x-content-type-options", "x-frame-options")
    } == {
        "cache-control": "no-cache",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
    }
    assert response.headers["cross-origin-opener-policy"] == "same-origin"


@with_docs
@pytest.mark.parametrize("path", FILES)
async def test_a_file_that_a_browser_has_is_not_sent_again(client: httpx.AsyncClient, path: str) -> None:
    first = await client.get(path)
    again = await client.get(path, headers={"if-none-match": first.headers["etag"]})
    other = await client.get(path, headers={"if-none-match": '"0"'})
    head = await client.head(path)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert (other.status_code, other.content) == (200, first.content)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(first.content))


@with_docs
async def test_the_page_has_no_script_and_no_style_in_its_text_and_all_it_names_is_served(
    client: httpx.AsyncClient,
) -> None:
    page = await client.get(PATH)
    assert not re.findall(r"<style|style=|\son\w+=|<script>|//", page.text)
    names = LINKED.findall(page.text)
    assert len(names) > 4
    for name in names:
        assert (await client.get(str(page.url.join(name)))).status_code == 200, name


@with_docs
@pytest.mark.parametrize(
    "path",
    ["/docs/", "/docs/index.html", "/docs/VERSION", "/docs/page.py", "/docs/../settings.py", "/docs/..%2fsettings.py"],
)
async def test_there_is_no_other_file(client: httpx.AsyncClient, path: str) -> None:
    assert code(await client.get(path)) == (404, "no-such-path")


@with_docs
@pytest.mark.parametrize("path", FILES)
async def test_a_file_can_only_be_read(client: httpx.AsyncClient, path: str) -> None:
    response = await client.post(path)
    assert code(response) == (405, "method-not-allowed")
    assert response.headers["allow"] == "GET, HEAD"


@on_sqlite
async def test_it_is_off_unless_it_is_asked_for(client: httpx.AsyncClient) -> None:
    for path in FILES:
        assert code(await client.get(path)) == (404, "no-such-path")


@pytest.mark.parametrize("docs", [False, True])
def test_nothing_of_it_is_imported_where_it_is_off_and_nothing_of_flask_in_any_case(docs: bool) -> None:
    program = f"""
import sys
from service.app import create_app
from service.settings import Settings
create_app(Settings(database_url="sqlite+aiosqlite://", docs={docs}))
print(*sorted(name for name in sys.modules if name.partition(".")[0] in ("flask", "flask_swagger_ui")
    or name.startswith("service.docs")))
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True, text=True)
    assert ran.stdout.split() == (["service.docs", "service.docs.page"] if docs else [])


def test_it_cannot_be_on_without_the_files_of_swagger_ui(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not list(contradictions(Settings(docs=True)))
    monkeypatch.setattr(rules, "swagger_ui_folder", lambda: None)
    [text] = contradictions(Settings(docs=True))
    assert "ITEMSVC_DOCS is on; expected off, as the package flask-swagger-ui is not installed" in text
    assert not list(contradictions(Settings()))
