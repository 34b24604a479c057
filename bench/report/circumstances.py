"""Under which circumstances a run was made, and what its figures do not say."""

from bench.databases import TITLES
from bench.record import Run

CAVEATS = """\
Load generator, contestant and database share this machine: what one takes, the others lack.
Each connection sends its next request when the response to the last one is there, so a slow contestant is asked less \
often, and its latencies are those at its own throughput.
All contestants run, with the same server settings, and one after the other is asked: those who wait cost nothing, and \
what is compared was measured side by side. Their responses were checked before, for many clients at once.
The table has {rows:,} rows, and is new before each measurement that changes it. Errors count, and so do acknowledged \
writes that are missing in it.
Figures are medians of {rounds} alternating rounds of {seconds} s each, after {warm_up} s of warm-up.
CPU is that of contestant and database together, without the load generator. Pools are as big as each guide leaves them.
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
