"""Failovers of a primary with a synchronous standby under load: nothing that was acknowledged stays behind."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from random import Random
from statistics import median
from typing import NamedTuple

import httpx
import psutil

from db.engines.postgresql import APPLICATION_NAME
from tests.conftest import migrate
from tests.faults.durable import DURABLE
from tests.faults.history import SEPARATOR
from tests.faults.report import Figures
from tests.faults.resources import RESOURCES
from tests.faults.trial import RESPONSES, WRITERS, Load, Survivor, check_answered, fill_pools
from tests.support.postgres import PostgresServer, ReplicatedPair
from tests.support.serving import ServiceProcess
from tests.support.waiting import wait_until

# A rebuilt standby is small, and finds the log of writes that was written while it was copied.
SETTINGS = {**DURABLE, "shared_buffers": "32MB", "wal_keep_size": "128MB", "wal_retrieve_retry_interval": "100ms"}
WORKERS = 2
TIMEOUTS_MS = {"statement_timeout_ms": 500, "connect_timeout_ms": 1000, "request_timeout_ms": 2000}
LIMITS = {f"ITEMSVC_{name.upper()}": str(value) for name, value in TIMEOUTS_MS.items()}
DEADLINE_S = TIMEOUTS_MS["request_timeout_ms"] / 1000
WRITES = 20  # acknowledged before each failover: there is something to lose
DELAYS_S = 0.1, 0.4  # from then on
WAITS_S = 0.2, 1.2  # before each trouble
ENDINGS_S = 0.3, 2.5  # after the last one; the driver gives up a second after the statement timeout
FOUND_DELAYS_S = 0.0, 0.4  # from finding the other primary until the former goes on
STAYS_S = 0.2, 1.5  # of a former primary that goes on
# What a backend that is left waiting may add to the connections of a service that has all that it may have.
CONNECTIONS_MORE_MAX = 4
FOUND_S_MAX = 5.0  # a frozen server is noticed by the driver's limit, and the other is the second to be tried
GONE_S_MAX = 2.0

OURS = f"FROM pg_stat_activity WHERE application_name = '{APPLICATION_NAME}'"
WAITING = f"{OURS} AND wait_event = 'SyncRep'"
COUNTS = f"SELECT count(*), count(*) FILTER (WHERE wait_event = 'SyncRep'), (SELECT min(id) FROM items) {OURS}"  # noqa: S608
# As text, since resources have the same ids.
ROWS_OF = "SELECT '{one.noun} ' || id, {one.named_by}, version FROM {one.collection.table.name}"
ROWS = " UNION ALL ".join([ROWS_OF.format(one=one) for one in RESOURCES])


def signal_waiting(function: str, primary: PostgresServer) -> int:
    """Signal the backends that wait for the standby, and return how many did."""
    return len(primary.query(f"SELECT {function}(pid) {WAITING}"))


def crash(primary: PostgresServer) -> int:
    """Let the primary crash, and come back as what it was; it does so once."""
    primary.stop("immediate")
    primary.start()
    return 1


TROUBLES: Mapping[str, Callable[[PostgresServer], int]] = {
    "nothing": lambda _: 1,
    "backends_ended": partial(signal_waiting, "pg_terminate_backend"),
    "waits_cancelled": partial(signal_waiting, "pg_cancel_backend"),  # commits are reported then, with a warning
    "crashes": crash,
}


class Absence(NamedTuple):
    """How a standby is away, and what befalls the primary meanwhile."""

    # What is sent to one that is frozen may arrive in the end; what one misses that is stopped never does.
    frozen: bool
    troubles: Sequence[str]


class Trial(NamedTuple):
    """Two servers, the service that has the address of both, and its writers."""

    pair: ReplicatedPair
    service: ServiceProcess
    load: Load
    random: Random

    def settle(self) -> None:
        """Wait until there is something to lose, and a little longer."""
        self.load.wait_for(WRITES)
        time.sleep(self.random.uniform(*DELAYS_S))  # no event tells how long

    def end(self) -> Figures:
        """Hold the service to every response it gave, by what the last primary has."""
        self.load.wait_for(WRITES)
        figures, [report] = self.load.end(self.pair.primary.url(), responses=RESPONSES)
        check_answered(report, DEADLINE_S)
        return {**figures, "stale": 0}  # the journals of reads are held against those of writes, too


class Watch:
    """What there was to see on primaries that wait for their standby."""

    def __init__(self, pair: ReplicatedPair, client: httpx.Client) -> None:
        self._pair = pair
        self._client = client
        self.waiting_max = self.connections_max = 0
        self.reads: Counter[str] = Counter()
        self.troubles: Counter[str] = Counter()

    def look(self) -> int:
        """Count the connections of the service, read an item by it, and return how many backends wait."""
        [[connections, waiting, id]] = self._pair.primary.query(COUNTS)
        self.waiting_max = max(self.waiting_max, waiting)
        self.connections_max = max(self.connections_max, connections)
        self.reads[str(self._client.get(f"/items/{id}").status_code)] += 1
        return int(waiting)

    def look_for(self, duration_s: float) -> None:
        """Look again and again for so long."""
        end = time.monotonic() + duration_s
        while time.monotonic() < end:
            self.look()

    def figures(self, at_rest: int) -> Figures:
        """Sum up. Raises AssertionError if there were more connections than there may be."""
        assert self.connections_max <= at_rest + CONNECTIONS_MORE_MAX, (self.connections_max, at_rest)
        connections = {"connections_at_rest": at_rest, "connections_max": self.connections_max}
        counts = {"waiting_backends_max": self.waiting_max, **connections}
        return {**dict(sorted(self.troubles.items())), **counts, "reads": dict(sorted(self.reads.items()))}


@contextmanager
def under_load(seed: int) -> Iterator[Trial]:
    """Return a trial that has begun."""
    with ExitStack() as opened:
        pair = opened.enter_context(ReplicatedPair(SETTINGS))
        migrate(pair.primary.url())
        service = opened.enter_context(Survivor(pair.url, workers=WORKERS, **LIMITS)).service
        load = opened.enter_context(Load(service.url, seed=seed))
        yield Trial(pair, service, load, Random(seed))  # noqa: S311 - no secret: it can be repeated


def fail_over_waiting_often(times: int, seed: int = 0) -> Figures:
    """Lose so many primaries that wait for their standby, after whatever may befall them."""
    random = Random(seed)  # noqa: S311 - no secret: it can be repeated
    troubles = [random.choices(list(TROUBLES), k=random.randint(1, 3)) for _ in range(times)]
    return fail_over_waiting([Absence(random.random() < 0.5, some) for some in troubles], seed)


def fail_over_waiting(absences: Sequence[Absence], seed: int = 0) -> Figures:
    """Lose a primary that waits for its standby, once for each absence; what it had made alone goes with it."""
    recoveries: list[float] = []
    with under_load(seed) as trial, new_connections(trial.service.url) as client:
        watch = Watch(trial.pair, client)
        fill_pools(trial.service.url)
        [[at_rest, _, _]] = trial.pair.primary.query(COUNTS)
        for absence in absences:
            trial.settle()
            lose_waiting(trial, watch, absence)
            recoveries.append(trial.load.recovery_s())
            trial.pair.rebuild()
        figures = {**watch.figures(at_rest), **trial.end()}
    frozen = sum(absence.frozen for absence in absences)
    return {"failovers": len(absences), "standbys_frozen": frozen, "recovery_ms": summary(recoveries), **figures}


def new_connections(url: str) -> httpx.Client:
    """Make a client that has another connection for each request, so that no worker serves them all."""
    return httpx.Client(base_url=url, timeout=2 * DEADLINE_S, limits=httpx.Limits(max_keepalive_connections=0))


def lose_waiting(trial: Trial, watch: Watch, absence: Absence) -> None:
    """Let the primary wait for its standby for a while, and replace it by that."""
    primary, standby = trial.pair.primary, trial.pair.standby
    standby.freeze() if absence.frozen else standby.stop("immediate")
    wait_until(watch.look)
    served = watch.reads["200"]
    for trouble in absence.troubles:
        watch.look_for(trial.random.uniform(*WAITS_S))
        watch.troubles[trouble] += TROUBLES[trouble](primary)
    watch.look_for(trial.random.uniform(*ENDINGS_S))
    assert watch.reads["200"] > served, watch.reads
    primary.kill()
    standby.thaw() if absence.frozen else standby.start()
    trial.pair.promote()


def fail_over_frozen(times: int, seed: int = 0) -> Figures:
    """Replace so many primaries that are frozen, and go on when the service has found the other."""
    recoveries: list[float] = []
    with under_load(seed) as trial:
        for _ in range(times):
            trial.settle()
            recoveries.append(replace_frozen(trial))
            last = max(writers._journal._numbers for writers in trial.load._at_work)
            time.sleep(trial.random.uniform(*FOUND_DELAYS_S))  # no event tells how long
            go_on_alone(trial.pair.standby, trial.random.uniform(*STAYS_S), last)
            trial.pair.rebuild()
        figures = trial.end()
    return {"failovers": times, **TIMEOUTS_MS, "recovery_ms": summary(recoveries), **figures}


def replace_frozen(trial: Trial) -> float:
    """Freeze the primary, promote its standby, and return the seconds from then until a write was acknowledged."""
    trial.pair.primary.freeze()
    trial.pair.promote()
    since = time.monotonic()
    # As many writers may be about to note what was acknowledged before.
    trial.load.wait_for(WRITERS + 1, FOUND_S_MAX)
    took_s = time.monotonic() - since
    wait_until(lambda: are_connected(trial.service, trial.pair.primary), FOUND_S_MAX)
    return took_s


def are_connected(service: ServiceProcess, server: PostgresServer) -> bool:
    """Whether every worker has a connection to a server."""
    connections = [worker.net_connections("tcp4") for worker in service.workers]
    ports = [{one.raddr.port for one in some if one.status == psutil.CONN_ESTABLISHED} for some in connections]
    return all(server.port in some for some in ports)


def go_on_alone(former: PostgresServer, stay_s: float, last: int) -> None:
    """Let a former primary go on, which takes itself for one, and waits for no standby.

    Raises AssertionError if the service still uses it: once what was sent before the freeze has been run, nothing may
    change there, and no write that is later than the last before the other was found may ever have arrived.
    """
    former.thaw()
    end = time.monotonic() + stay_s
    former.configure("synchronous_standby_names", "")
    with suppress(TimeoutError):  # then the changes say more
        wait_until(lambda: not former.query(f"SELECT {OURS}"), GONE_S_MAX)
    before = set(former.query(ROWS))
    time.sleep(max(0.0, end - time.monotonic()))  # no event tells how long
    after = set(former.query(ROWS))
    kept = former.query(f"SELECT state, query {OURS}")
    faults = [
        *(f"{name} was written there after write {last}" for _, name, _ in after if write_of(name) > last),
        *(f"{row} ({name}) was updated there" for row, name, _ in before ^ after),
        *(f"a connection to it is kept: {one}" for one in kept),
    ]
    assert not faults, f"{len(faults)} faults of the former primary: {faults[:50]}"


def write_of(name: str) -> int:
    """Return the number of the last write that gave a row its name."""
    return max(map(int, re.findall(rf"[-{SEPARATOR}](\d+)", name)))


def summary(times_s: Sequence[float]) -> Figures:
    """Sum up times, in milliseconds."""
    return {"median": round(median(times_s) * 1000), "max": round(max(times_s) * 1000)}
