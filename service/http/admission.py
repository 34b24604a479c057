"""Who may call an operation: who it is, and what they may do, before anything else of a request is read."""

import asyncio
from math import inf

from starlette.types import Scope

from db.tables.call import Call
from service.auth.authenticator import Authenticator, Known
from service.auth.principal import OWN
from service.context import Context
from service.http.headers import Headers, valid_time_limit
from service.http.problems import FORBIDDEN, NO_SUCH_PATH, ProblemError


class Admission:
    """Lets in callers with a scope, and those with the scope for their own where a path's parameter is their id.

    With `own_rows`, that scope is for the rows that they own. With `is_owned`, what they write has to be theirs, or
    nobody's.
    """

    def __init__(self, scope: str | None, own: str | None, *, own_rows: bool, is_owned: bool) -> None:
        self._scope = scope or ""  # which nobody is asked for
        self._own_rows = own_rows
        self._own, self._own_scope = own, self._scope + OWN
        self._is_owned = is_owned

    def known(self, authenticator: Authenticator, headers: Headers, scope: Scope) -> Known | None:
        """Return who calls, or None if that has to be authenticated."""
        return authenticator.known(headers.get(b"authorization"), scope.get("certificate"))

    async def admit(
        self, context: Context, authenticator: Authenticator, headers: Headers, scope: Scope, *, anew: bool
    ) -> tuple[Known, Call]:
        """Find out who calls, and return it and the call, whose time includes that. Raise a 401, a 403, and a 429."""
        deadline = _deadline(context, headers)
        presented = headers.get(b"authorization"), scope.get("certificate")
        caller = await authenticator.authenticate(*presented, deadline, anew=anew)
        return caller, self.enter(context, caller, scope)._replace(deadline=deadline)

    async def readmit(
        self, context: Context, authenticator: Authenticator, headers: Headers, scope: Scope, call: Call
    ) -> Call:
        """Find out again who calls, and return the call. Raise a 401, and a 403."""
        deadline = call.within(context.settings.request_timeout_ms / 1000).deadline
        caller = await authenticator.authenticate(headers.get(b"authorization"), scope.get("certificate"), deadline)
        return self.call(caller, scope)._replace(deadline=deadline)

    def enter(self, context: Context, caller: Known, scope: Scope) -> Call:
        """Return the call of a caller, who counts against their limits until the response. Raise a 403, and a 429."""
        limits = context.caller_limits
        if limits is not None and context.worker_state.requests >= limits.counted_from:
            limits.enter(scope, caller.principal)
        return self.call(caller, scope)

    def call(self, caller: Known, scope: Scope) -> Call:
        """Return the call of a caller. Raise a 403."""
        principal = caller.principal
        if not principal.may(self._scope):
            if self._own_rows and principal.may(self._own_scope):
                return principal.call._replace(owner=principal.user_id)
            is_own = self._own is not None and scope["path_params"][self._own] == str(principal.user_id)
            if not (is_own and principal.may(self._own_scope)):
                raise ProblemError(FORBIDDEN, f"The scope {self._scope} is missing.")
        return principal.owning_call if self._is_owned else principal.call


async def call_by_password(context: Context, headers: Headers, scope: Scope) -> Call:
    """Return the call of a user by a name and a password. Raise a 401, a 429, and a 404 if no tokens are accepted."""
    refuse_without_tokens(context)
    deadline = _deadline(context, headers)
    address = scope["client"][0] if scope.get("client") else ""
    user_id = await context.login.authenticate(headers.get(b"authorization"), address, deadline)
    return Call(deadline, caller=user_id)


def refuse_without_tokens(context: Context) -> None:
    """Raise a 404 where a token that is issued would let nobody in."""
    if context.settings.auth and "tokens" not in context.settings.auth:
        raise ProblemError(NO_SUCH_PATH, "ITEMSVC_AUTH has no tokens, so none are issued here.")


def _deadline(context: Context, headers: Headers) -> float:
    """Return when a request that arrives now has to be over, by the loop's clock."""
    limit_s = min(context.settings.request_timeout_ms / 1000, valid_time_limit(headers) or inf)
    return asyncio.get_running_loop().time() + limit_s
