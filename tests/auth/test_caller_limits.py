"""Limits of one caller: requests a second and at the same time, and a share of all that a worker serves."""

import pytest
from starlette.types import Scope

from db.errors import Overloaded
from service.auth.caller_limits import CALLERS_KEPT, CallerLimits
from service.auth.principal import principal_of
from service.http.problems import ProblemError
from service.quotas import NO_QUOTAS, Quotas
from service.worker_state import WorkerState
from tests.support.callers import Clock

ADA, BOB = 1, 2


def made(per_s: Quotas = NO_QUOTAS, at_once: Quotas = NO_QUOTAS, *, clock: Clock) -> CallerLimits:
    return CallerLimits(WorkerState(), 1000, per_s, at_once, clock=clock)


def entered(limits: CallerLimits, user_id: int, role: str = "writer") -> Scope:
    scope: Scope = {}
    limits.enter(scope, principal_of(user_id, role))
    return scope


def refused(limits: CallerLimits, user_id: int, role: str = "writer") -> dict[str, str]:
    """Return the headers of the 429."""
    with pytest.raises(ProblemError) as caught:
        entered(limits, user_id, role)
    assert caught.value.problem_type.status == 429
    return {name.decode(): value.decode() for name, value in caught.value.headers}


def fields(scope: Scope) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in scope["rate_limit"]}


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


def test_a_callers_rate_is_a_bucket_that_fills_within_a_second(clock: Clock) -> None:
    limits = made(Quotas(4), clock=clock)
    for remaining in (3, 2, 1, 0):
        assert fields(entered(limits, ADA)) == {
            "ratelimit-policy": '"requests";q=4;w=1',
            "ratelimit": f'"requests";r={remaining};t=1',
        }
    assert refused(limits, ADA) == {
        "retry-after": "1",
        "ratelimit-policy": '"requests";q=4;w=1',
        "ratelimit": '"requests";r=0;t=1',
    }
    assert entered(limits, BOB)
    clock.now += 0.5
    for _ in range(2):
        entered(limits, ADA)
    refused(limits, ADA)  # which takes nothing
    clock.now += 0.25
    entered(limits, ADA)
    clock.now += 3600
    for _ in range(4):
        entered(limits, ADA)
    refused(limits, ADA)


def test_a_caller_has_as_many_requests_at_a_time_as_may_be(clock: Clock) -> None:
    limits = made(at_once=Quotas(2), clock=clock)
    first = entered(limits, ADA)
    assert fields(first)["ratelimit"] == '"concurrency";r=1'
    assert fields(entered(limits, ADA)) == {
        "ratelimit-policy": '"concurrency";q=2;qu="concurrent-requests"',
        "ratelimit": '"concurrency";r=0',
    }
    assert refused(limits, ADA)["ratelimit"] == '"concurrency";r=0'
    assert entered(limits, BOB)
    first["caller"].leave()
    assert entered(limits, ADA)
    refused(limits, ADA)


def test_both_limits_are_told_at_once(clock: Clock) -> None:
    limits = made(Quotas(10), Quotas(5), clock=clock)
    assert fields(entered(limits, ADA)) == {
        "ratelimit-policy": '"requests";q=10;w=1, "concurrency";q=5;qu="concurrent-requests"',
        "ratelimit": '"requests";r=9;t=1, "concurrency";r=4',
    }


def test_a_users_own_number_wins_over_that_of_the_role_and_this_over_that_of_all_others(clock: Clock) -> None:
    limits = made(Quotas.read("3,writer=2,admin=0,1=1"), clock=clock)
    for user_id, role, allowed in [(ADA, "writer", 1), (BOB, "writer", 2), (3, "reader", 3)]:
        for _ in range(allowed):
            entered(limits, user_id, role)
        refused(limits, user_id, role)
    for _ in range(100):
        assert "rate_limit" not in entered(limits, 4, "admin")


def test_another_role_is_another_limit_and_keeps_what_is_being_served(clock: Clock) -> None:
    limits = made(at_once=Quotas.read("writer=2,reader=1"), clock=clock)
    writing = [entered(limits, ADA) for _ in range(2)]
    refused(limits, ADA, "reader")
    for scope in writing:
        scope["caller"].leave()
    entered(limits, ADA, "reader")
    refused(limits, ADA, "reader")


def test_another_role_gives_no_requests_back(clock: Clock) -> None:
    limits = made(Quotas.read("writer=4,reader=4"), clock=clock)
    for _ in range(2):
        entered(limits, ADA, "writer")
        entered(limits, ADA, "reader")
    refused(limits, ADA, "writer")
    refused(limits, ADA, "reader")


@pytest.mark.parametrize("requests_max", [1, 2, 3])
def test_whoever_comes_alone_is_served_however_few_requests_there_may_be(requests_max: int) -> None:
    worker = WorkerState()
    limits = CallerLimits(worker, requests_max)
    for _ in range(3):
        worker.requests = 1
        entered(limits, ADA)["caller"].leave()


def test_one_caller_leaves_places_to_the_others_who_have_an_equal_share() -> None:
    worker = WorkerState()
    limits = CallerLimits(worker, 32)  # of which 28 are shared, and 12 of these are counted

    def come(user_id: int) -> Scope:
        worker.requests += 1
        try:
            return entered(limits, user_id) if worker.requests >= limits.counted_from else {}
        except Overloaded:
            worker.requests -= 1
            raise

    def is_refused(user_id: int) -> bool:
        try:
            come(user_id)
        except Overloaded:
            return True
        return False

    greedy = [come(ADA) for _ in range(28)]
    assert is_refused(ADA)
    assert [is_refused(BOB) for _ in range(3)] == [False] * 3
    assert is_refused(ADA)
    for scope in filter(None, greedy[:20]):  # some of which came while nobody was counted
        scope["caller"].leave()
    worker.requests -= 20
    assert [is_refused(BOB) for _ in range(20)] == [False] * 17 + [True] * 3


def test_callers_who_are_idle_are_forgotten_and_others_are_not(clock: Clock) -> None:
    limits = made(Quotas(1), clock=clock)
    entered(limits, 1)
    for user_id in range(2, CALLERS_KEPT + 1):
        entered(limits, user_id)["caller"].leave()
    clock.now += 1
    for user_id in range(CALLERS_KEPT + 1, CALLERS_KEPT + 1001):
        entered(limits, user_id)["caller"].leave()
    assert len(limits._callers) <= CALLERS_KEPT
    assert limits._callers[1].in_flight == 1
    refused(limits, CALLERS_KEPT + 1000)


def test_without_limits_nothing_is_told_and_every_request_is_counted(clock: Clock) -> None:
    limits = made(clock=clock)
    scopes = [entered(limits, user_id) for user_id in (1, 1, 2)]
    assert all(scope.keys() == {"caller"} for scope in scopes)
    assert limits.active == 2
    for scope in scopes:
        scope["caller"].leave()
    assert limits.active == 0
