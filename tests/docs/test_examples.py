"""Every example of the documents is run in its page's order, as a reader would, and prints what the page shows."""

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.examples import RUN, SHOWN, Example, examples
from tests.docs.pages import PAGES, ROOT
from tests.docs.session import DATABASE, Session
from tests.support.postgres import Databases

# What this page adds to the project is added and tested by tests/test_adding_a_resource.py.
FOLLOWED_ELSEWHERE = ROOT / "docs" / "adding-a-resource.md"
ALL = [example for page in PAGES if page != FOLLOWED_ELSEWHERE for example in examples(page)]
# On Debian, packages of these names; of OpenSSL at least 3.
MISSING = [tool for tool in ("bash", "curl", "make", "openssl") if shutil.which(tool) is None]
RUNNABLE = [example for example in ALL if example.language in RUN and not example.reason]
# Reviewed: how each block begins that is not run; the page says why.
NOT_RUN = {
    "README.md": ["$ git clone"],
    "deploy/README.md": [
        "$ kubectl create",
        "$ kubectl --namespace",
        "$ kubectl --namespace",
        "$ kubectl apply",
        "$ deploy/secrets.sh $",
        "$ sudo git",
        "$ sudo systemd-run",
    ],
    "docs/deploying.md": ["$ docker build"],
    "docs/developing.md": ["$ make test"],
    "docs/reliability.md": ["$ make faults"],
}


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
@pytest.mark.parametrize("page", sorted({example.page for example in RUNNABLE}), ids=name)
def test_the_examples_of_a_page_print_what_it_shows(page: Path, request: pytest.FixtureRequest) -> None:
    wanted = [example for example in RUNNABLE if example.page == page]
    with ExitStack() as opened:
        url = ""
        if any(DATABASE in example.text for example in wanted):
            databases: Databases = request.getfixturevalue("postgres_databases")
            url = opened.enter_context(databases.empty())
        session = opened.enter_context(Session(url))
        for example in wanted:
            follow(session, example)


def follow(session: Session, example: Example) -> None:
    for command in example.commands():
        try:
            printed = session.run(command)
            if command.output is not None:
                session.compare(command.output, printed)
        except AssertionError as error:
            raise AssertionError(f"{example.place}: {command.text}\n{error}") from None


def test_blocks_are_of_languages_that_are_run_or_have_nothing_to_run() -> None:
    assert [example.place for example in ALL if example.language not in RUN | SHOWN] == []


def test_what_is_not_run_is_known_and_says_why() -> None:
    found: dict[str, list[str]] = {}
    for example in ALL:
        if example.reason:
            found.setdefault(name(example.page), []).append(" ".join(example.text.split()[:3]))
    assert found == NOT_RUN
