"""Which contests there are: the short one for every day, the full one for publishing."""

from collections.abc import Sequence

from msgspec.structs import replace

from bench.contestants import BASELINE, CONTESTANTS, OURS
from bench.record import Part, Plan
from bench.workloads import COLD_PAGE, GET, GET_OF_MANY, LIST, MIXED, PAGE, POST, PUT, READ_BATCH, WRITE_BATCH

CROWDS = (1, 8, 64, 256)
CROWD = 64
# SQLite has one writer, so it is given to one process.
WORKERS, WORKERS_ON_SQLITE = 2, 1


def applicants(database: str) -> list[str]:
    """List who can take part on this database."""
    return [entry.key for entry in CONTESTANTS if database in entry.databases]


def short() -> Plan:
    """Plan a contest of less than ten minutes: this service and one of every kind of peer."""
    on_postgres = Part(
        database="postgres",
        workers=WORKERS,
        contestants=[OURS, "go", "fastify", "blacksheep", BASELINE],
        cells={
            **{entry.key: [1, 8, CROWD] for entry in (PAGE, GET, POST, PUT)},
            **{entry.key: [8, CROWD] for entry in (READ_BATCH, WRITE_BATCH)},
            **{entry.key: [CROWD] for entry in (COLD_PAGE, GET_OF_MANY, LIST)},
        },
    )
    on_sqlite = Part(
        database="sqlite",
        workers=WORKERS_ON_SQLITE,
        contestants=[OURS, BASELINE],
        cells={entry.key: [CROWD] for entry in (PAGE, GET, POST)},
    )
    return Plan(parts=[on_postgres, on_sqlite], rounds=3, duration_seconds=1, warm_up_seconds=1, rows=10_000)


def full() -> Plan:
    """Plan a contest of everyone and everything, of more than an hour."""
    on_postgres = Part(
        database="postgres",
        workers=WORKERS,
        contestants=applicants("postgres"),
        cells={
            GET.key: [*CROWDS],
            **{entry.key: [1, 8, CROWD] for entry in (PAGE, POST, PUT)},
            **{entry.key: [8, CROWD] for entry in (READ_BATCH, WRITE_BATCH)},
            **{entry.key: [CROWD] for entry in (COLD_PAGE, GET_OF_MANY, LIST, MIXED)},
        },
    )
    on_sqlite = Part(
        database="sqlite",
        workers=WORKERS_ON_SQLITE,
        contestants=applicants("sqlite"),
        cells={GET.key: [1, CROWD], **{entry.key: [CROWD] for entry in (PAGE, POST, PUT, LIST)}},
    )
    return Plan(parts=[on_postgres, on_sqlite], rounds=5, duration_seconds=2, warm_up_seconds=1, rows=10_000)


def answerable(part: Part) -> Part:
    """Leave out the workloads that none of a part's contestants serves."""
    taking_part = [entry for entry in CONTESTANTS if entry.key in part.contestants]
    cells = {
        key: crowds for key, crowds in part.cells.items() if any(key not in entry.leaves_out for entry in taking_part)
    }
    return replace(part, cells=cells)


PRESETS = {"short": short, "full": full}


def narrowed(
    part: Part,
    *,
    contestants: Sequence[str] | None = None,
    workloads: Sequence[str] | None = None,
    connections: Sequence[int] | None = None,
) -> Part:
    """Put in place of a part's own contestants, workloads and crowds those that were named."""
    crowds = list(connections or ())
    return Part(
        database=part.database,
        workers=part.workers,
        contestants=[key for key in applicants(part.database) if key in (contestants or part.contestants)],
        cells={key: crowds or part.cells.get(key, [CROWD]) for key in workloads or part.cells},
    )
