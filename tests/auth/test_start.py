"""Who may come in is decided before the service listens, and said at its start."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.command_line import main

ANYWHERE = {"ITEMSVC_AUTH_OFF_ANYWHERE": "on"}
TOKENS = {"ITEMSVC_AUTH": "tokens"}
EVERYBODY = "authentication is off: every client that reaches the service may read and write everything"
THIS_MACHINE = "authentication is off: every client on this machine may read and write everything"


class NoSupervisor:
    """What would start the workers: it starts none."""

    def __init__(self, *_: object, **_options: object) -> None:
        """Take what a supervisor takes."""

    def run(self) -> int:
        """Return at once."""
        return 0


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Run the command line in a folder of its own, without workers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("service.commands.serve.Supervisor", NoSupervisor)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104
def test_a_service_without_authentication_does_not_listen_where_others_can_reach_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    monkeypatch.setattr("os.environ", {"ITEMSVC_HOST": host, "PORT": "0"})
    assert main(["serve"]) == 1
    what, error = capsys.readouterr().err.splitlines()
    assert what == "The service cannot start:"
    assert error.startswith(f"- ITEMSVC_AUTH is off, and {host} is not a loopback address")
    assert "ITEMSVC_AUTH=tokens" in error
    assert error.endswith("ITEMSVC_AUTH_OFF_ANYWHERE=on")
    assert not list(Path().iterdir())  # no database was made


@pytest.mark.parametrize(
    ("environ", "level", "line"),
    [
        ({"ITEMSVC_HOST": "0.0.0.0", **ANYWHERE}, "warning", EVERYBODY),  # noqa: S104
        ({"ITEMSVC_HOST": "::", **ANYWHERE}, "warning", EVERYBODY),
        ({"ITEMSVC_HOST": "::1", **ANYWHERE}, "info", THIS_MACHINE),
        ({"ITEMSVC_HOST": "localhost"}, "info", THIS_MACHINE),
        ({}, "info", THIS_MACHINE),
        ({"ITEMSVC_HOST": "0.0.0.0", **TOKENS}, "info", "callers are authenticated"),  # noqa: S104
        (TOKENS, "info", "callers are authenticated"),
    ],
    ids=str,
)
def test_the_start_says_who_may_come_in(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environ: dict[str, str],
    level: str,
    line: str,
) -> None:
    monkeypatch.setattr("os.environ", {"PORT": "0", **environ})
    assert main(["serve"]) == 0
    said = map(json.loads, capsys.readouterr().err.splitlines())
    assert [(each["level"], each["message"]) for each in said if "migrated" not in each["message"]] == [(level, line)]


@pytest.mark.parametrize(("environ", "is_needed"), [({}, False), (TOKENS, True)])
def test_the_document_that_is_printed_says_whether_a_token_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], environ: dict[str, str], is_needed: bool
) -> None:
    monkeypatch.setattr("os.environ", environ)
    assert main(["openapi"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert ({} not in document["paths"]["/items"]["get"]["security"]) == is_needed


@pytest.mark.parametrize("value", ["on", "oidc", "Tokens", "tokens,off"])
def test_another_way_of_authentication_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    monkeypatch.setattr("os.environ", {"ITEMSVC_AUTH": value})
    assert main(["serve"]) == 1
    assert (
        f"ITEMSVC_AUTH is '{value}'; expected off alone, or tokens, jwt, mtls, several by commas"
        in capsys.readouterr().err
    )
