"""docs/adding-a-resource.md, followed to the letter in a copy of the project: what it promises is what one gets."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from difflib import unified_diff
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.conftest import POSTGRESQL, SERVER_VARIABLE
from tests.support.responses import MSGPACK, code, next_url, pointers
from tests.support.serving import ServiceProcess

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs" / "adding-a-resource.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"^(New file|In) `(\S+?)`(?:, (before|after|in place of) `([^\n]+)`)?\n\n```\w+\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
FENCE = re.compile(r"^```(\w+)$", re.MULTILINE)
COMMANDS = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINES = re.compile(r"fewer than (\d+) lines")
# By the commands.
WRITTEN = {"docs/api.md", "docs/operations.md", "docs/problems.md", "db/migrations/versions/0006_books.py"}
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "*.db")
# Of pytest and of coverage around this test: they must not reach into those that it runs.
INHERITED = ("PYTEST_", "COV", "DATABASE_URL", "ITEMSVC_")


class Block(NamedTuple):
    """A block of the document, and where it goes."""

    kind: str
    file: str
    place: str
    anchor: str
    text: str

    def add(self, project: Path) -> None:
        """Make the file, or insert the block at the one line that the document names."""
        file = project / self.file
        if self.kind == "New file":
            assert not file.exists(), f"{self.file} exists"
            file.write_text(self.text, encoding="utf-8")
            return
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        found = [number for number, line in enumerate(lines) if line.strip() == self.anchor]
        assert len(found) == 1, f"{self.file} has the line `{self.anchor}` {len(found)} times"
        start, end = {"before": (0, 0), "after": (1, 1), "in place of": (0, 1)}[self.place]
        lines[found[0] + start : found[0] + end] = [self.text]
        file.write_text("".join(lines), encoding="utf-8")


BLOCKS = [Block(*match) for match in BLOCK.findall(DOCUMENT)]


def run(project: Path, *command: str, **environ: str) -> str:
    """Run a command in the project, and return what it prints; show it if the command fails."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(INHERITED)}
    done = subprocess.run(
        command,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=project,
        env={**inherited, "PYTHONPATH": str(project), **environ},
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-8000:]}"
    return done.stdout


def contents(project: Path) -> dict[str, list[str]]:
    """Return the lines of every file of text."""
    paths = [path for path in project.rglob("*") if path.is_file() and not path.is_symlink()]
    names = {path.relative_to(project).as_posix(): path for path in paths}
    hidden = re.compile(r"(^|/)(\.|__pycache__/)|\.db")
    return {
        name: path.read_text(encoding="utf-8", errors="replace").splitlines()
        for name, path in names.items()
        if not hidden.search(name)
    }


def added_lines(before: list[str], after: list[str]) -> list[str]:
    """Return the lines that a file has gained, those that were changed too."""
    return [line for line in list(unified_diff(before, after, n=0))[2:] if line.startswith("+")]


class Project(NamedTuple):
    """A copy of the project with one resource more, and the lines that each file has gained by it."""

    folder: Path
    added: Mapping[str, list[str]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return the project after all that the document says."""
    folder = tmp_path_factory.mktemp("copy") / "project"
    shutil.copytree(ROOT, folder, ignore=NOT_COPIED)
    (folder / ".venv").symlink_to(sys.prefix)
    before = contents(folder)
    for block in BLOCKS:
        block.add(folder)
    [commands] = COMMANDS.findall(DOCUMENT)
    run(folder, "sh", "-ec", re.sub("^[$] ", "", commands, flags=re.MULTILINE))
    after = contents(folder)
    changed = [name for name in {*before, *after} if before.get(name) != after.get(name)]
    return Project(folder, {name: added_lines(before.get(name, []), after.get(name, [])) for name in changed})


def test_every_block_says_where_it_goes() -> None:
    assert FENCE.findall(DOCUMENT).count("console") == 1
    assert len(FENCE.findall(DOCUMENT)) == len(BLOCKS) + 1
    assert all((block.kind == "In") == bool(block.anchor) for block in BLOCKS)


def test_only_the_files_of_the_document_change(project: Project) -> None:
    assert set(project.added) == {block.file for block in BLOCKS} | WRITTEN
    assert all(f"`{name}`" in DOCUMENT for name in WRITTEN)


def test_the_lines_are_as_few_as_the_document_says(project: Project) -> None:
    counts = {name: len(lines) for name, lines in project.added.items() if name not in WRITTEN}
    [bound] = LINES.findall(DOCUMENT)
    assert sum(counts.values()) < int(bound), counts


@pytest.mark.parametrize("tool", ["ruff check", "ruff format --check", "lint-imports", "mypy db service"])
def test_every_tool_is_content(project: Project, tool: str) -> None:
    name, *arguments = tool.split()
    run(project.folder, f".venv/bin/{name}", *arguments)


def test_every_promise_of_a_resource_is_kept(project: Project, backend: str, request: pytest.FixtureRequest) -> None:
    other = "sqlite" if backend == POSTGRESQL else POSTGRESQL
    files = sorted(map(str, (project.folder / "tests" / "api").glob("test_conformance*.py")))
    server = {SERVER_VARIABLE: request.getfixturevalue("postgres_url")} if backend == POSTGRESQL else {}
    wanted = ["-k", f"(books or every_resource) and not {other}"]
    printed = run(project.folder, sys.executable, "-m", "pytest", "-q", "--tb=short", *wanted, *files, **server)
    assert int(re.findall(r"(\d+) passed", printed)[0]) > len(files), printed


EMMA = {"title": "Emma", "author": "Jane Austen", "year": 1815, "isbn": "9780141439587"}
EMILIA = {"title": "Emilia Galotti", "author": "Gotthold Ephraim Lessing", "year": 1772}


@pytest.fixture
def client(project: Project, empty_database_url: str) -> Iterator[httpx.Client]:
    """Return a client of the copy's own service."""
    run(project.folder, sys.executable, "-m", "service", "migrate", DATABASE_URL=empty_database_url)
    with ServiceProcess(empty_database_url, PYTHONPATH=str(project.folder)) as service, service.client() as client:
        yield client


def check_lists(client: httpx.Client, emma: Any, emilia: Any) -> None:
    def found(**query: Any) -> Any:
        return client.get("/books", params=query).json()

    assert found(year_min=1800) == found(author="Jane Austen") == found(ids=f"{emma['id']},99") == [emma]
    assert found(year_max=1800, title_prefix="Em") == [emilia]
    assert found(title_prefix="Em", order="-title", count=True) == found(order="-year") == [emma, emilia]
    first = client.get("/books", params={"order": "title", "limit": 1})
    following = next_url(first)
    assert following is not None
    assert (first.json(), client.get(following).json()) == ([emilia], [emma])
    assert code(client.get(following.replace("/books?", "/users?").replace("title", "id"))) == (400, "invalid-cursor")


def check_refusals(client: httpx.Client, emma: Any, emilia: Any) -> None:
    taken = client.patch("/books", json=[{"id": emilia["id"], "isbn": emma["isbn"]}])
    assert (code(taken), pointers(taken)) == ((409, "already-exists"), ["/0/isbn"])
    wrong = client.post("/books", json={**EMILIA, "year": 0, "isbn": "978014143958\n"})
    assert (code(wrong), pointers(wrong)) == ((422, "invalid-body"), ["/year", "/isbn"])
    here = f"/books/{emma['id']}"
    assert pointers(client.patch(here, json={"title": None})) == ["/title"]
    assert code(client.patch(here, json={}, headers={"If-Match": '"2-json"'})) == (412, "stale")
    assert code(client.get("/books/99")) == (404, "book-not-found")


def check_writes(client: httpx.Client, emma: Any, emilia: Any) -> None:
    one, two, other = emma["id"], emilia["id"], "9783150000458"
    assert client.patch(f"/books/{two}", json={"isbn": other}).json()["isbn"] == other
    swapped = client.patch("/books", json=[{"id": one, "isbn": other}, {"id": two, "isbn": emma["isbn"]}]).json()
    assert [(book["isbn"], book["version"]) for book in swapped] == [(other, 2), (emma["isbn"], 3)]
    moved = client.patch("/books", json=[{"id": one, "isbn": emma["isbn"]}, {"id": two, "isbn": None}]).json()
    assert [(book["isbn"], book["version"]) for book in moved] == [(emma["isbn"], 3), (None, 4)]
    assert client.get(f"/books/{one}", headers={"If-None-Match": '"3-json"'}).status_code == 304
    assert client.get(f"/books/{one}", headers={"Accept": MSGPACK}).headers["etag"] == '"3-msgpack"'
    keyed = {"Idempotency-Key": "once", "X-Request-Timeout": "9.5"}
    once, again = (client.post("/books", json={**EMILIA, "title": "Nathan"}, headers=keyed) for _ in range(2))
    assert (once.status_code, again.json(), again.headers["idempotency-replayed"]) == (201, once.json(), "true")
    assert client.delete(f"/books?ids={two},99,{one}").json() == [two, one]
    assert client.delete(once.headers["location"]).status_code == 204
    assert client.get("/books").json() == []


def check_document(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths["/books"]) == {"get", "head", "post", "patch", "delete"}
    assert set(paths["/books/{id}"]) == {"get", "head", "put", "patch", "delete"}
    names = {parameter.get("name") for parameter in paths["/books"]["get"]["parameters"]}
    assert {"order", "author", "year_min", "year_max", "title_prefix", "after", "ids"} <= names


def test_books_are_served_as_the_document_says(client: httpx.Client) -> None:
    response = client.post("/books", json=[EMMA, EMILIA])
    assert response.status_code == 201, response.text
    emma, emilia = response.json()
    assert {name: emma[name] for name in (*EMMA, "version")} == {**EMMA, "version": 1}
    assert emilia["isbn"] is None
    check_lists(client, emma, emilia)
    check_refusals(client, emma, emilia)
    check_writes(client, emma, emilia)
    check_document(client)
