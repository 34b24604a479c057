"""W3C trace context: the headers `traceparent` and `tracestate`, read strictly and written again.

Where a request has no valid `traceparent`, both are ignored, as the recommendation has it: it never fails a request.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple, Self

# The version, the trace's id, the parent's, and the flags; a version that is not known here may have more, after a
# dash. Ids of zeros and the version ff are invalid (https://www.w3.org/TR/trace-context/, sections 3.2 and 3.2.2).
TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-[!-~]*)?"
)
TRACEPARENT_LENGTH = 55  # of version 00, which has no more
VERSION = b"00"
SAMPLED, RANDOM = 0x01, 0x02
# Keys as level 2 has them, which takes all of level 1's; a value ends without a blank.
MEMBER = re.compile(rb"([a-z0-9][a-z0-9_*/@-]{0,255})=([ -+\--<>-~]{0,255}[!-+\--<>-~])")
MEMBERS_MAX = 32
TRACESTATE_BYTES_MAX = 1024  # at least 512 have to be passed on


class TraceContext(NamedTuple):
    """Where a request stands in a trace: its trace's id, the id of the span that it is part of, both in hexadecimal."""

    trace_id: str
    span_id: str
    flags: int
    state: tuple[tuple[str, str], ...] = ()  # of `tracestate`

    @property
    def is_sampled(self) -> bool:
        """Whether the trace is recorded by whoever is before."""
        return bool(self.flags & SAMPLED)

    def within(self, span_id: str) -> Self:
        """Return the context of what is part of a span of the trace that is recorded here."""
        return type(self)(self.trace_id, span_id, self.flags | SAMPLED, self.state)

    @property
    def state_text(self) -> str:
        """What `tracestate` says."""
        return ",".join([f"{key}={value}" for key, value in self.state])

    def headers(self) -> list[tuple[str, str]]:
        """Return the headers by which another service is told."""
        headers = [("traceparent", f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}")]
        if self.state:
            headers.append(("tracestate", self.state_text))
        return headers


def read_trace_context(headers: Iterable[tuple[bytes, bytes]]) -> TraceContext | None:
    """Return the trace context of a request's headers; None without a `traceparent`, or if it is invalid."""
    parents, states = [], []
    for name, value in headers:
        if name == b"traceparent":
            parents.append(value)
        elif name == b"tracestate":
            states.append(value)
    match = TRACEPARENT.fullmatch(parents[0]) if len(parents) == 1 else None
    if match is None or (match[1] == VERSION and len(parents[0]) != TRACEPARENT_LENGTH):
        return None
    flags = int(match[4], 16) & (SAMPLED | RANDOM)
    return TraceContext(match[2].decode(), match[3].decode(), flags, read_state(b",".join(states)))


def read_state(text: bytes) -> tuple[tuple[str, str], ...]:
    """Return the members of a `tracestate`; none at all if it is invalid, too long, or has a key twice."""
    if len(text) > TRACESTATE_BYTES_MAX:
        return ()
    members = [member for part in text.split(b",") if (member := part.strip(b" \t"))]
    matches = [match for member in members if (match := MEMBER.fullmatch(member))]
    keys = {match[1] for match in matches}
    if not len(members) == len(matches) == len(keys) <= MEMBERS_MAX:
        return ()
    return tuple((match[1].decode(), match[2].decode()) for match in matches)
