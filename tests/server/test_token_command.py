"""The command `token`: issues, lists and revokes tokens, with which callers come in."""

import asyncio

import pytest

from service.auth.token_text import digest_of
from tests.server.test_command_line import Run, errors, run
from tests.support.audit import audit_log
from tests.support.issued import change_user, store_user
from tests.support.serving import ServiceProcess
from tests.support.tokens import bearer
from tests.support.waiting import wait_until

__all__ = ["run"]

LAMP = {"name": "lamp", "price": 1}


def issue(run: Run, database_url: str, *arguments: str) -> str:
    """Issue a token, and return it: it is all that is printed."""
    result = run("token", "issue", *arguments, DATABASE_URL=database_url)
    assert (result.code, result.out.count("\n")) == (0, 1), result
    return result.out.strip()


def listed(run: Run, database_url: str, *arguments: str) -> list[str]:
    return run("token", "list", *arguments, DATABASE_URL=database_url).out.splitlines()


def test_the_first_token_is_of_an_administrator_who_is_made_once(run: Run, database_url: str) -> None:
    first, second = (issue(run, database_url, "--admin", "--name", name) for name in ("laptop", "ci"))
    assert first != second
    for line, text, name in zip(listed(run, database_url), (first, second), ("laptop", "ci"), strict=True):
        digest = digest_of(text)
        assert digest is not None
        assert (digest.prefix in line, name in line, "last used never" in line) == (True, True, True)
        assert text not in line


def test_a_token_lets_its_user_in_until_it_is_revoked(run: Run, database_url: str) -> None:
    asyncio.run(store_user(database_url, "ada", "writer"))
    token = issue(run, database_url, "--user", "ada", "--expires-in", "3600")
    serving = ServiceProcess(database_url, ITEMSVC_AUTH="tokens", ITEMSVC_AUTH_CACHE_MS="50")
    with serving as service, service.client() as client:
        assert "callers are authenticated" in service.log
        assert client.post("/items", json=LAMP).status_code == 401
        created = client.post("/items", json=LAMP, headers=bearer(token))
        assert (created.status_code, created.json()["owner_id"]) == (201, 1)
        [line] = listed(run, database_url, "--user", "ada@EXAMPLE.org")
        id, *_ = line.split()
        assert "expires 20" in line
        assert run("token", "revoke", id, DATABASE_URL=database_url).code == 0
        wait_until(lambda: client.get("/items/1", headers=bearer(token)).status_code == 401)
    assert listed(run, database_url) == ["There is no token."]


def test_what_the_command_changes_is_in_the_audit_log(run: Run, database_url: str) -> None:
    issue(run, database_url, "--admin", "--name", "first")
    issue(run, database_url, "--admin", "--expires-in", "3600")
    run("token", "revoke", "1", DATABASE_URL=database_url)
    records = asyncio.run(audit_log(database_url))
    assert {(each.caller, each.how, each.request_id) for each in records} == {(None, "command line", None)}
    assert [(each.action, each.resource, each.row_id, each.changes.get("user_id")) for each in records] == [
        ("create", "users", 1, None),
        ("create", "tokens", 1, [None, 1]),
        ("create", "tokens", 2, [None, 1]),
        ("delete", "tokens", 1, [1, None]),
    ]
    assert records[0].changes["role"] == [None, "admin"]


def test_what_cannot_be_done_is_one_line(run: Run, database_url: str) -> None:
    asyncio.run(change_user(database_url, asyncio.run(store_user(database_url, "gone", "writer")), is_active=False))
    for arguments, expected in (
        (("issue", "--user", "gone"), "the user gone may not sign in"),
        (("issue", "--user", "nobody"), "there is no user with the name or email nobody"),
        (("list", "--user", "nobody"), "there is no user with the name or email nobody"),
        (("issue", "--user", ""), "there is no user with the name or email "),
        (("issue", "--user="), "there is no user with the name or email "),
        (("list", "--user", ""), "there is no user with the name or email "),
        (("revoke", "7"), "7"),
    ):
        [error] = errors(run("token", *arguments, DATABASE_URL=database_url))
        assert expected in error


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_without_the_schema_it_says_what_to_run(run: Run, database_url: str) -> None:
    assert run("migrate", "downgrade", "base", DATABASE_URL=database_url).code == 0
    [error] = errors(run("token", "issue", "--admin", DATABASE_URL=database_url))
    assert "run python -m service migrate" in error


def test_a_user_called_admin_who_is_none_gets_no_administrators_token(run: Run, database_url: str) -> None:
    asyncio.run(store_user(database_url, "admin", "reader"))
    [error] = errors(run("token", "issue", "--admin", DATABASE_URL=database_url))
    assert "the user admin has the role reader" in error


@pytest.mark.parametrize(
    "arguments",
    [
        ["issue"],
        ["issue", "--admin", "--user", "ada"],
        ["issue", "--admin", "--expires-in", "0"],
        ["issue", "--admin", "--expires-in", "soon"],
        ["issue", "--admin", "--name="],
        ["revoke", "itm_"],
    ],
    ids=" ".join,
)
def test_what_is_no_such_command_is_a_matter_of_usage(run: Run, database_url: str, arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("token", *arguments, DATABASE_URL=database_url)
    assert listed(run, database_url) == ["There is no token."]
