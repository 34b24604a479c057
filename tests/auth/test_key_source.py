"""Where keys are read: responses and files that are key sets, and those that are not used."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service.auth import key_source
from service.auth.key_source import KEY_SET_BYTES_MAX, FileSource, KeySourceError
from tests.support.issuer import Issuer, issuing, signing_key, url_source

pytestmark = pytest.mark.anyio

ONE = signing_key("one")


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    """Return an issuer whose key set has the key `one`."""
    async with issuing(ONE) as issuer:
        yield issuer


def chunked(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)


CONTENT = json.dumps({"keys": [ONE.public()]}).encode()
READABLE: dict[str, dict[str, Any]] = {
    "as it is": {"content": CONTENT},
    "of another media type": {"content": CONTENT, "headers": {"Content-Type": "text/plain"}},
    "in chunks": {
        "content": chunked(CONTENT),
        "headers": {"Transfer-Encoding": "chunked", "Content-Length": "0"},
    },
    "with the largest size": {"content": CONTENT.ljust(KEY_SET_BYTES_MAX)},
}


@pytest.mark.parametrize("how", READABLE)
async def test_a_response_is_read(issuer: Issuer, how: str) -> None:
    vars(issuer).update(READABLE[how])
    assert (await url_source(issuer.url).read()).rstrip() == CONTENT


UNREADABLE: dict[str, tuple[dict[str, Any], str]] = {
    "a redirect": ({"status": 302, "headers": {"Location": "/jwks.json"}}, "the response is a 302"),
    "an error": ({"status": 503}, "the response is a 503"),
    "nothing": ({"status": 204, "content": b""}, "the response is a 204"),
    "too much": ({"content": CONTENT.ljust(KEY_SET_BYTES_MAX + 1)}, f"it has more than {KEY_SET_BYTES_MAX} bytes"),
    "far too much": ({"content": CONTENT.ljust(8 * KEY_SET_BYTES_MAX)}, f"it has more than {KEY_SET_BYTES_MAX} bytes"),
    "a part": ({"headers": {"Content-Length": "100000"}}, "the response cannot be read: IncompleteRead"),
    "a chunk that is none": (
        {"content": b"lamp", "headers": {"Transfer-Encoding": "chunked"}},
        "the response cannot be read: IncompleteRead",
    ),
    "a wrong head": ({"headers": {"Lamp": 70_000 * "a"}}, "the response cannot be read: LineTooLong"),
    "another protocol": ({"status": 101, "content": b""}, "the response is a 101"),
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_a_response_that_is_not_a_whole_200_is_not_used(issuer: Issuer, what: str) -> None:
    change, reason = UNREADABLE[what]
    vars(issuer).update(change)
    with pytest.raises(KeySourceError) as caught:
        await url_source(issuer.url).read()
    assert str(caught.value).startswith(reason)
    assert issuer.fetches == 1


async def test_a_response_that_does_not_end_is_given_up(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_source, "FETCH_TIMEOUT_S", 0.05)
    issuer.gate.clear()
    with pytest.raises(KeySourceError, match=r"there was no whole response within 0\.05 s"):
        await url_source(issuer.url).read()


async def test_an_issuer_that_is_not_there_and_a_file_that_is_not_are_errors(tmp_path: Path) -> None:
    async with issuing() as issuer:
        gone = issuer.url
    with pytest.raises(KeySourceError, match="Connect"):
        await url_source(gone).read()
    with pytest.raises(KeySourceError, match="No such file or directory"):
        await FileSource(tmp_path / "jwks.json").read()
    (tmp_path / "large").write_bytes(CONTENT.ljust(KEY_SET_BYTES_MAX + 1))
    with pytest.raises(KeySourceError, match="more than"):
        await FileSource(tmp_path / "large").read()
