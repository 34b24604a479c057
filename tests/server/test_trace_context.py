"""W3C trace context: what is read of a request, strictly, and what others are told of it."""

import json
import logging
import re

import httpx
import pytest

from service.auth import jwks
from service.observability.log_lines import JSONLines, RequestFields
from service.observability.trace_context import TraceContext, read_trace_context
from service.settings import Settings
from tests.auth.test_jwt_service import of, serving_jwts
from tests.support.issuer import issuing, signing_key

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"


def read(*parents: str, states: tuple[str, ...] = ()) -> TraceContext | None:
    headers = [(b"traceparent", parent.encode("latin-1")) for parent in parents]
    return read_trace_context([*headers, *((b"tracestate", state.encode()) for state in states)])


@pytest.mark.parametrize(
    ("parent", "flags"),
    [
        (VALID, 1),
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-03", 3),
        (f"00-{TRACE}-{SPAN}-fc", 0),  # flags that nobody has defined
        (f"cc-{TRACE}-{SPAN}-01", 1),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", 1),
        (f"01-{TRACE}-{SPAN}-01-", 1),
    ],
)
def test_a_valid_parent_is_read_of_a_later_version_too(parent: str, flags: int) -> None:
    assert read(parent) == (TRACE, SPAN, flags, ())


@pytest.mark.parametrize(
    "parent",
    [
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-more",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"cc-{TRACE}-{SPAN}-011",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"0G-{TRACE}-{SPAN}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}0-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f"00_{TRACE}_{SPAN}_01",
        f" {VALID}",
        f"{VALID}\n",
        f"00-{TRACE}-{SPAN}-0\xb9",
    ],
)
def test_any_other_parent_is_ignored(parent: str) -> None:
    assert read(parent, states=("a=1",)) is None


def test_two_parents_are_none() -> None:
    assert read(VALID, VALID) is None
    assert read() is None


@pytest.mark.parametrize(
    ("states", "members"),
    [
        (("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",), (("rojo", "00f067aa0ba902b7"), ("congo", "t61rcWkgMzE"))),
        (("a=1", "b=2"), (("a", "1"), ("b", "2"))),
        (("a=1 ,\t, b= 2",), (("a", "1"), ("b", " 2"))),
        (("fw529a3039@dt=FfAlkeSJX/x=y",), ()),  # an equals sign in a value
        (("0tenant@sys=x-y_z*~",), (("0tenant@sys", "x-y_z*~"),)),
        (("a=1,a=2",), ()),
        (("a=1,B=2",), ()),
        (("a=1,b",), ()),
        (("a=",), ()),
        ((f"a={'x' * 256}",), (("a", "x" * 256),)),
        ((f"a={'x' * 257}",), ()),
        ((",".join(f"k{n}=v" for n in range(32)),), tuple((f"k{n}", "v") for n in range(32))),
        ((",".join(f"k{n}=v" for n in range(33)),), ()),
        ((",".join(f"k{n}={'v' * 200}" for n in range(6)),), ()),  # too long
        (("a=1\x7f",), ()),
    ],
)
def test_a_state_is_read_whole_or_not_at_all(states: tuple[str, ...], members: tuple[tuple[str, str], ...]) -> None:
    assert read(VALID, states=states) == (TRACE, SPAN, 1, members)


def test_a_context_is_passed_on_as_the_version_that_is_known() -> None:
    context = read(f"cc-{TRACE}-{SPAN}-ff-more", states=("a=1", " b=2"))
    assert context is not None
    assert context.headers() == [("traceparent", f"00-{TRACE}-{SPAN}-03"), ("tracestate", "a=1,b=2")]
    assert read("cc" + VALID[2:]) == read(VALID)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("settings", [{"access_log": True}], indirect=True)
async def test_lines_of_a_request_have_its_trace_id_if_its_parent_is_valid(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    caplog.handler.addFilter(RequestFields())
    for parent in (VALID, f"ff{VALID[2:]}"):
        await client.get("/livez", headers={"traceparent": parent})
    await client.get("/livez")
    lines = [json.loads(JSONLines().format(record)) for record in caplog.records if record.name == "service"]
    assert [line.get("trace_id") for line in lines] == [TRACE, None, None]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_an_issuer_is_told_the_trace_of_the_request_that_needs_its_keys(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "COOL_DOWN_S", 0.0)
    state = "congo=t61rcWkgMzE"
    async with issuing() as issuer, serving_jwts(settings, issuer) as client:
        assert (await client.get("/items", headers=of("ada"))).status_code == 200
        traced = {**of("ada", signing_key("two")), "traceparent": VALID, "tracestate": state}
        assert (await client.get("/items", headers=traced)).status_code == 401
        first, *later = issuer.heads
    assert "traceparent" not in first  # it was read at the start
    assert re.findall(r"trace\w+: [^\r]+", "".join(later)) == [f"traceparent: {VALID}", f"tracestate: {state}"]
