#!/usr/bin/env bash
# opentelemetry-exporter-otlp-proto-common 1.45.2: a link's trace state is not exported, though the message has a field
# for it and the span's own is; and neither a span nor a link has its W3C flags, which OTLP has room for: a collector
# cannot tell a link to a trace that was sampled from one to a trace that nobody recorded.
#
# Guessed before: what the SDK's Link has is what the collector gets.
#
# Seen: span: state vendor=one, flags 0x100; link: state '', flags 0x100 (sampled would be 0x101)
#
# Source: opentelemetry/exporter/otlp/proto/common/_internal/trace_encoder/__init__.py, _encode_links and _span_flags;
# opentelemetry-proto, trace.proto (Span.Link.trace_state; flags: "Bits 0-7 … are used for trace flags").

set -euo pipefail
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check opentelemetry-sdk==1.45.2 \
    opentelemetry-exporter-otlp-proto-common==1.45.2

cat >"$work/show.py" <<'EOF'
import sys

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Link, SpanContext, TraceFlags, TraceState

SAMPLED = TraceFlags(TraceFlags.SAMPLED)
own = SpanContext(1, 2, is_remote=False, trace_flags=SAMPLED, trace_state=TraceState([("vendor", "one")]))
other = SpanContext(3, 4, is_remote=False, trace_flags=SAMPLED, trace_state=TraceState([("vendor", "two")]))
span = ReadableSpan("work", context=own, links=[Link(other)], start_time=1, end_time=2)
[exported] = encode_spans([span]).resource_spans[0].scope_spans[0].spans
[link] = exported.links
seen = (exported.trace_state, exported.flags, link.trace_state, link.flags)
print("span: state %s, flags %#x; link: state %r, flags %#x" % seen)
sys.exit(seen != ("vendor=one", 0x100, "", 0x100))
EOF
"$work/venv/bin/python" "$work/show.py" || {
    echo CHANGED >&2
    exit 1
}
