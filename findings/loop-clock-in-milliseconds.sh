#!/usr/bin/env bash
# uvloop 0.23.0, CPython's asyncio: on uvloop loop.time() has whole milliseconds. A statement of 0.3 ms that is timed by
# it took 0 ms, or 1 ms in a third of all runs: averages are right, and every histogram below some milliseconds, or
# estimate from a few statements, is not. asyncio's is time.monotonic() itself. Both begin at the same zero, so that
# time.monotonic() can take its place beside deadlines that were made of loop.time().
#
# Guessed before: loop.time() is time.monotonic() on either loop, within some nanoseconds.
#
# Seen, of 200 waits of 0.3 ms each:
#       asyncio: whole milliseconds: none; at most 0.01 ms away from time.monotonic()
#       uvloop: whole milliseconds: all, most of them 0; up to 1 ms behind time.monotonic()
#
# Source: uvloop/loop.pyx, Loop._time (uv.uv_now, which libuv's documentation has in milliseconds); asyncio/base_events.py,
# BaseEventLoop.time (time.monotonic).

set -euo pipefail
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check --no-deps uvloop==0.23.0

"$work/venv/bin/python" - <<'EOF'
import asyncio
import sys
import time

import uvloop

BUSY_S = 0.0003
RUNS = 200


def is_whole(seconds):
    return abs(seconds * 1000 - round(seconds * 1000)) < 1e-6


async def look():
    """Return what short pieces of work took by the loop's clock, and how far behind time.monotonic() that is."""
    loop = asyncio.get_running_loop()
    took, behind = [], []
    for _ in range(RUNS):
        await asyncio.sleep(0)
        before = loop.time()
        started = time.monotonic()
        while time.monotonic() < started + BUSY_S:
            pass
        took.append(loop.time() - before)
        behind.append(time.monotonic() - loop.time())
    return took, sorted(behind)[RUNS // 2]


seen = {}
for name, run in {"asyncio": asyncio.run, "uvloop": uvloop.run}.items():
    took, behind = run(look())
    whole, nothing = sum(map(is_whole, took)), sum(each < 1e-6 for each in took)
    print(f"{name}: of {RUNS} works of {BUSY_S * 1000} ms {whole} took whole milliseconds, {nothing} nothing at all;"
          f" typically {behind * 1000:.3f} ms behind time.monotonic()")
    seen[name] = whole == RUNS, nothing > RUNS / 3, -1e-5 < behind < 1e-3
if seen != {"asyncio": (False, False, True), "uvloop": (True, True, True)}:
    sys.exit(f"CHANGED: {seen}")
EOF
