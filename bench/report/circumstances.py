"""Under which circumstances a run was made, and what its figures do not say."""

from bench.databases import TITLES
from bench.record import Run

CAVEATS = """\
Load generator, contestant and database share this machine: what one takes, the others lack.
Each connection sends its next request when the response to the last one is there, so a slow contestant is asked less \
often, and its latencies are those at its own throughput.
All contestants run, those in Python with the same server and its settings, and one after the other is asked: who \
waits costs nothing, and what is compared was measured side by side. Their responses were checked before, for many \
clients at once, and so were pages of every order, row by row.
The table has {rows:,} rows, or a million where that is said, and is new before each measurement that changes it. \
Errors count, and so do acknowledged writes that are missing in it.
Each request for a page asks for one at random of thousands that lie all over the orders id, price and name; everybody \
is asked for the same ones, this service with its cursors, the others with the values of the row before. The \
same page for everyone is the one workload whose responses can be shared by those who ask.
What a round asks at random is the same for everybody, and no other round asks it again in that sequence.
Figures are medians of {rounds} alternating rounds of {seconds} s each, after {warm_up} s of warm-up, and multiples \
are the medians of the rounds' own ratios.
CPU is that of contestant and database together, without the load generator; memory is that of all processes of the \
contestant, with what they share counted once (PSS). Pools are as big as each guide leaves them, \
but Go takes part with a larger one, too.
PostgreSQL runs with fsync, synchronous_commit and full_page_writes, and SQLite with its own default, in a file with a \
write-ahead log.
The plain ASGI callable asks no database and pgbench speaks no HTTP: they mark bounds."""


def facts(run: Run) -> dict[str, str]:
    """Return when, on what and with which versions it was measured."""
    workers = {TITLES[part.database]: part.workers for part in run.plan.parts}
    return {
        "measured": f"{run.started:%Y-%m-%d %H:%M} UTC",
        "machine": ", ".join(f"{name} {value}" for name, value in run.machine.items()),
        "versions": ", ".join(f"{name} {value}" for name, value in run.versions.items()),
        "processes of each contestant": ", ".join(f"{count} on {title}" for title, count in workers.items()),
    }


def caveats(run: Run) -> list[str]:
    """Return what has to be known before the figures are read."""
    plan = run.plan
    seconds, warm_up = plan.duration_seconds, plan.warm_up_seconds
    return CAVEATS.format(rows=plan.rows, rounds=plan.rounds, seconds=seconds, warm_up=warm_up).splitlines()
