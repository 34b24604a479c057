"""What one caller may have of a worker: requests a second, requests at the same time, and a share of all of them.

The share is there without any setting: one caller cannot take every place of ITEMSVC_REQUESTS_MAX. Callers are counted
for it while a worker serves many requests, and always if there are limits. The rate is a token bucket that holds a
second's requests: no timer, and nothing to do for a caller who is not there.
Source: draft-ietf-httpapi-ratelimit-headers-10.
"""

from collections.abc import Callable
from itertools import islice
from time import monotonic
from typing import NoReturn

from starlette.types import Scope

from db.errors import Overloaded
from db.limit import Limit
from service.auth.principal import Principal
from service.http.problems import RETRY_AFTER, TOO_MANY_REQUESTS, ProblemError
from service.http.response import Header
from service.quotas import NO_QUOTAS, Quotas
from service.worker_state import WorkerState

CALLERS_KEPT = 10_000  # then those who are idle are forgotten
# Of a worker's places, callers are counted from so many on, and share those up to so many: who comes then finds one.
COUNTED_FROM, SHARED_TO = 1 / 2, 7 / 8


class CallerRequests:
    """The requests of one caller: how many are being served, and how many more may come by now."""

    __slots__ = (
        "allowed",
        "allowed_at",
        "at_once_max",
        "in_flight",
        "limits",
        "per_s_max",
        "policy",
        "role",
        "user_id",
    )

    def __init__(self, limits: "CallerLimits", principal: Principal, now: float) -> None:
        self.limits = limits
        self.user_id = principal.user_id
        self.in_flight = 0
        self.set_limits(principal.role)
        self.allowed, self.allowed_at = float(self.per_s_max), now

    def set_limits(self, role: str) -> None:
        """Set the limits of a role, or of the caller's own; nothing of the second's requests comes back."""
        self.role = role
        self.per_s_max = self.limits.per_s.of(self.user_id, role)
        self.at_once_max = self.limits.at_once.of(self.user_id, role)
        rate = f'"requests";q={self.per_s_max};w=1'
        at_once = f'"concurrency";q={self.at_once_max};qu="concurrent-requests"'
        self.policy = self._fields(rate, at_once)

    def check(self, now: float) -> None:
        """Count a request against the rate. Raise a 429 over a limit."""
        if self.at_once_max and self.in_flight >= self.at_once_max:
            self._refuse(f"{self.at_once_max} requests of the user {self.user_id} are being served")
        if self.per_s_max:
            self.allowed = min(self.per_s_max, self.allowed + (now - self.allowed_at) * self.per_s_max)
            self.allowed_at = now
            if self.allowed < 1:
                self._refuse(f"The user {self.user_id} has sent more than {self.per_s_max} requests within a second")
            self.allowed -= 1

    def headers(self, *, entered: bool) -> list[Header]:
        """Return the fields of a response to a request that is counted, or to one that is refused.

        There are more requests within a second: the rate is that of a second, and `t` has no fractions.
        """
        rate = f'"requests";r={int(self.allowed)};t=1'
        at_once = f'"concurrency";r={self.at_once_max - self.in_flight - entered}'
        return [(b"ratelimit-policy", self.policy), (b"ratelimit", self._fields(rate, at_once))]

    def leave(self) -> None:
        """Note that a request has ended."""
        self.in_flight -= 1
        if not self.in_flight:
            self.limits.active -= 1

    def is_idle(self, now: float) -> bool:
        """Return whether it would be the same if it were made now."""
        return not self.in_flight and now >= self.allowed_at + 1

    def _fields(self, rate: str, at_once: str) -> bytes:
        """Return a list of structured fields: of the limits that there are."""
        return ", ".join([*([rate] if self.per_s_max else []), *([at_once] if self.at_once_max else [])]).encode()

    def _refuse(self, why: str) -> NoReturn:
        raise ProblemError(TOO_MANY_REQUESTS, f"{why}.", headers=[RETRY_AFTER, *self.headers(entered=False)])


class CallerLimits:
    """Counts the requests of each caller, and refuses those over a limit; the worker serves `requests_max` in all.

    It has to know of requests while the worker serves `counted_from` or more.
    """

    def __init__(
        self,
        worker_state: WorkerState,
        requests_max: int,
        per_s: Quotas = NO_QUOTAS,
        at_once: Quotas = NO_QUOTAS,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.per_s, self.at_once = per_s, at_once
        self.active = 0  # callers with requests that are counted
        self._is_limited = bool(per_s) or bool(at_once)
        self.counted_from = 0 if self._is_limited else int(requests_max * COUNTED_FROM)
        self._worker_state = worker_state
        self._shared_to = int(requests_max * SHARED_TO)
        self._clock = clock
        self._callers: dict[int, CallerRequests] = {}

    def enter(self, scope: Scope, principal: Principal) -> None:
        """Count a request, which `leave` of `scope["caller"]` ends. Raise a 429, and Overloaded over the share."""
        caller = self._callers.get(principal.user_id)
        if caller is None:
            caller = self._add(principal)
        is_full = self._worker_state.requests > self._shared_to
        if is_full and caller.in_flight and caller.in_flight * self.active >= self._shared_to - self.counted_from:
            raise Overloaded("the caller has its share of the requests that are being served", Limit.CALLER_SHARE)
        if self._is_limited:
            if caller.role != principal.role:
                caller.set_limits(principal.role)
            caller.check(self._clock())
            if caller.policy:
                scope["rate_limit"] = caller.headers(entered=True)
        if not caller.in_flight:
            self.active += 1
        caller.in_flight += 1
        scope["caller"] = caller

    def _add(self, principal: Principal) -> CallerRequests:
        """Add a caller, in the place of one who is idle if there are many."""
        now = self._clock()
        if len(self._callers) >= CALLERS_KEPT:
            for user_id, caller in list(islice(self._callers.items(), 2)):
                del self._callers[user_id]
                if not caller.is_idle(now):  # it has another chance, behind all others
                    self._callers[user_id] = caller
        caller = self._callers[principal.user_id] = CallerRequests(self, principal, now)
        return caller
