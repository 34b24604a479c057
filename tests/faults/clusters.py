"""A Patroni cluster under load: switchovers, killed and frozen leaders, reloads of HAProxy."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from random import Random

from tests.conftest import migrate
from tests.faults.failovers import DEADLINE_S, DELAYS_S, LIMITS, TIMEOUTS_MS, WORKERS, WRITES, summary
from tests.faults.patroni import INSTALL, MISSING, PatroniCluster
from tests.faults.patroni_nodes import Leader, Node
from tests.faults.report import Figures
from tests.faults.trial import RECOVERY_S_MAX, RESPONSES, WRITERS, Load, Survivor, check_answered
from tests.faults.workload import Habits

HABITS = Habits(pause_s=0.02)  # Patroni and etcd need the processor, too: without it leaders lose their locks
LEADER_S_MAX = 60.0  # a frozen one keeps its lock for as long as Patroni's ttl
POLL_S = 0.01  # between two questions for the leader
FREEZES_S = 5.0, 40.0  # shorter and longer than the ttl
# Beyond a deadline, and the usual allowance: eight more servers take turns on the same processors.
CLUSTER_S = 0.25
RELOADED_S = 0.0, 2.0  # from a reload until what comes next

WAYS: Mapping[str, Callable[[PatroniCluster], str]] = {
    "haproxy": lambda cluster: cluster.url(),
    "hosts": lambda cluster: cluster.url(*cluster.nodes),
}


class Trial:
    """A cluster, the service, its writers, and how soon they wrote again after each leader was there."""

    def __init__(self, cluster: PatroniCluster, load: Load, random: Random) -> None:
        self.cluster = cluster
        self.random = random
        self._load = load
        self._recoveries_s: list[float] = []
        self._leaders: list[Leader] = []

    def settle(self) -> Leader:
        """Wait until the cluster is whole and there is something to lose, and a little longer; return the leader."""
        leader = self.cluster.settle()
        self._leaders.append(leader)
        self._load.wait_for(WRITES)
        self.pause(DELAYS_S)
        return leader

    def pause(self, bounds_s: tuple[float, float]) -> None:
        """Wait for some time; no event tells how long."""
        time.sleep(self.random.uniform(*bounds_s))

    def recover(self, *frozen: Node, gone: Leader | None = None, limit_s: float = LEADER_S_MAX) -> bool:
        """Wait until writes are acknowledged again, and return whether there was a leader in time.

        The clock starts when Patroni says that a node is the primary, and again when it says so of another. Raises
        AssertionError if writes take too long from then.
        """
        end = time.monotonic() + limit_s
        found: Leader | None = None
        since = target = 0.0
        while found is not None or time.monotonic() < end:
            leader = self.cluster.leader(*frozen)
            if leader == gone:
                leader = None
            if leader != found:
                # As many writers may be about to note what was acknowledged before.
                found, since, target = leader, time.monotonic(), self._load.acknowledged + WRITERS + 1
            took_s = time.monotonic() - since
            if found is not None and self._load.acknowledged >= target:
                self._recoveries_s.append(took_s)
                return True
            assert found is None or took_s <= RECOVERY_S_MAX, (found.node.name, took_s, self._load.acknowledged, target)
            time.sleep(POLL_S)
        return False

    def end(self) -> Figures:
        """Hold the service to every response it gave, by what the last leader has."""
        self._load.wait_for(WRITES)
        leader = self.cluster.found()
        self._leaders.append(leader)
        figures, [report] = self._load.end(self.cluster.url(leader.node), responses=RESPONSES)
        check_answered(report, DEADLINE_S + CLUSTER_S)
        changes = sum(one != other for one, other in zip(self._leaders, self._leaders[1:], strict=False))
        return {"leaders_changed": changes, "recovery_ms": summary(self._recoveries_s), **figures, "stale": 0}


@contextmanager
def under_load(way: str, seed: int) -> Iterator[Trial]:
    """Return a trial that has begun."""
    assert not MISSING, INSTALL
    with ExitStack() as opened:
        cluster = opened.enter_context(PatroniCluster())
        migrate(cluster.url(cluster.settle().node))
        service = opened.enter_context(Survivor(WAYS[way](cluster), workers=WORKERS, **LIMITS)).service
        load = opened.enter_context(Load(service.url, HABITS, seed=seed))
        yield Trial(cluster, load, Random(seed))  # noqa: S311 - no secret: it can be repeated


def put_through(
    fault: Callable[[Trial], None], times: int, ways: Sequence[str] = tuple(WAYS), seed: int = 0
) -> Figures:
    """Let a fault happen so many times to a cluster for each way of reaching it."""
    return {**TIMEOUTS_MS, **{way: _put_through(fault, times, way, seed) for way in ways}}


def _put_through(fault: Callable[[Trial], None], times: int, way: str, seed: int) -> Figures:
    with under_load(way, seed) as trial:
        for _ in range(times):
            fault(trial)
        return {"times": times, **trial.end()}


def switch_over(trial: Trial) -> None:
    """Let the synchronous standby become the leader, on demand."""
    leader = trial.settle()
    asked = trial.cluster.switch_over(leader)
    trial.recover(gone=leader)
    response = asked.result()
    assert response.is_success, response.text


def kill(trial: Trial) -> None:
    """Kill -9 the leader's postmaster."""
    leader = trial.settle()
    leader.node.kill()
    assert trial.recover(gone=leader)


def freeze(trial: Trial, *, patroni: bool) -> None:
    """Suspend the leader's PostgreSQL, and its Patroni too or not, for less or more than the time of its lock."""
    leader = trial.settle()
    end = time.monotonic() + trial.random.uniform(*FREEZES_S)
    leader.node.freeze(patroni=patroni)
    trial.recover(leader.node, limit_s=end - time.monotonic())
    time.sleep(max(0.0, end - time.monotonic()))  # no event tells how long
    leader.node.thaw()
    assert trial.recover()


def reload(trial: Trial) -> None:
    """Let HAProxy be replaced, and maybe the leader some time later.

    HAProxy's former process keeps its connections, and checks no server any more: it closes none to a former leader.
    """
    trial.settle()
    trial.cluster.reload()
    trial.pause(RELOADED_S)
    assert trial.recover()
    [fault] = trial.random.choices(list(AFTER_A_RELOAD), list(AFTER_A_RELOAD.values()))
    fault(trial)


AFTER_A_RELOAD: Mapping[Callable[[Trial], object], int] = {
    Trial.settle: 5,
    switch_over: 3,
    kill: 2,
    partial(freeze, patroni=True): 2,
}

switch_over_often = partial(put_through, switch_over)
kill_often = partial(put_through, kill)
freeze_postgresql = partial(put_through, partial(freeze, patroni=False))
freeze_node = partial(put_through, partial(freeze, patroni=True))
reload_haproxy = partial(put_through, reload, ways=["haproxy"])
