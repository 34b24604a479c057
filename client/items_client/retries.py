"""Retries: with jitter, after Retry-After, within a budget, until the one deadline of a call.

A write keeps its idempotency key from try to try, so that it happens once however often it is sent.
"""

import asyncio
import random
from asyncio import sleep
from itertools import count

from .errors import ConnectionFailed, DeadlineExceeded, ItemsError, OutcomeUnknown, response_error
from .messages import Request, Response
from .transport import Progress, Transport

BACKOFF_S, BACKOFF_S_MAX = 0.05, 2.0
SUCCESS_MAX = 299
IN_DOUBT = "The write may or may not have happened; repeat it under its idempotency key."
TOO_LATE = "The time of the call was over."


class RetryBudget:
    """How many retries a client may send: a share of its calls, and a few at once.

    However many calls fail, they do not multiply the load of a service that is in trouble.
    """

    def __init__(self, share: float = 0.2, burst: float = 20.0) -> None:
        self._share = share
        self._burst = self._left = burst

    def deposit(self) -> None:
        """Count a call."""
        self._left = min(self._left + self._share, self._burst)

    def withdraw(self) -> bool:
        """Return whether a retry may be sent, and count it."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


class RetryingSender:
    """Sends a request until its response is final. Whatever happens then is an ItemsError."""

    def __init__(self, transport: Transport, budget: RetryBudget) -> None:
        self._transport = transport
        self._budget = budget

    async def send(self, request: Request) -> Response:
        """Return the response, a success. Raises ItemsError."""
        self._budget.deposit()
        tries = Tries(request)
        try:
            async with asyncio.timeout_at(request.deadline):
                return await self._send(request, tries)
        except ItemsError:  # some are a TimeoutError, too
            raise
        except TimeoutError:
            raise tries.timeout() from tries.last

    async def _send(self, request: Request, tries: "Tries") -> Response:
        for number in count():
            progress = tries.begin()
            try:
                response = await self._transport.send(request, progress)
            except ConnectionFailed as failed:
                tries.fail(failed)
                wait_s = backoff_s(number)
            else:
                if response.status <= SUCCESS_MAX:
                    return response
                tries.fail(response_error(response))
                wait_s = retry_after_s(response) + backoff_s(number)
            if not tries.may_go_on or self._is_too_late(request, wait_s) or not self._budget.withdraw():
                raise tries.error()
            await sleep(wait_s)
        raise AssertionError  # which is never reached

    def _is_too_late(self, request: Request, wait_s: float) -> bool:
        return asyncio.get_running_loop().time() + wait_s >= request.deadline


class Tries:
    """What is known of the tries of one request."""

    def __init__(self, request: Request) -> None:
        self.last: ItemsError | None = None
        self._request = request
        self._in_doubt = False  # whether a try may have happened
        self._progress = Progress()

    def begin(self) -> Progress:
        """Begin a try."""
        self._progress = Progress()
        return self._progress

    def fail(self, error: ItemsError) -> None:
        """End a try that failed: without a response of the service, or unfinished, it may have happened."""
        is_lost = isinstance(error, ConnectionFailed) and self._progress.sent
        is_of_proxy = error.retryable and not error.code and not isinstance(error, ConnectionFailed)
        if self._request.is_write and (is_lost or is_of_proxy or isinstance(error, OutcomeUnknown)):
            self._in_doubt = True
        self._progress = Progress()
        self.last = error

    @property
    def may_go_on(self) -> bool:
        """Whether the last try may be followed by another one."""
        return self.last is not None and (self.last.retryable or isinstance(self.last, OutcomeUnknown))

    def error(self) -> ItemsError:
        """Return what the call fails with."""
        if self.last is None or (self._in_doubt and self.may_go_on):
            return self._unknown()
        return self.last

    def timeout(self) -> ItemsError:
        """Return what the call fails with as its time is over."""
        if self._in_doubt or (self._request.is_write and self._progress.sent):
            return self._unknown()
        return DeadlineExceeded(TOO_LATE)

    def _unknown(self) -> OutcomeUnknown:
        if isinstance(self.last, OutcomeUnknown):
            error = self.last
        else:
            error = OutcomeUnknown(IN_DOUBT)
            error.__cause__ = self.last
        error.idempotency_key = self._request.idempotency_key
        return error


def backoff_s(number: int) -> float:
    """Return how long to wait after a try, from 0 on: anything up to a limit that doubles from try to try.

    Source: "Exponential Backoff And Jitter" by Marc Brooker, the form "full jitter".
    """
    return random.uniform(0, min(BACKOFF_S * 2 ** min(number, 16), BACKOFF_S_MAX))  # noqa: S311 - no secret


def retry_after_s(response: Response) -> float:
    """Return the seconds in Retry-After, as the service sends them; 0 if there are none."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0
