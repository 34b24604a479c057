"""The throttle of those who sign in: wrong passwords are counted, for each account and for each address.

It is a worker's own: with several workers, and instances, an attacker has as many times the tries. The memory is
bounded without forgetting anything within the minute: a try costs a hash, of which a worker makes few a minute. It is
counted when its hash begins, and taken back if the password is right: nobody gets around it by giving up early.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address
from time import monotonic

from db.errors import Overloaded
from service.http.problems import TOO_MANY_TRIES, ProblemError

WINDOW_S = 60
ACCOUNT_TRIES_MAX = 10
ACCOUNT_AT_ONCE_MAX, ADDRESS_AT_ONCE_MAX = 8, 16  # tries that are under way, or wait
FOR_ACCOUNT, FROM_ADDRESS = "for this user", "from this address"
KEYS_MAX = 20_000  # accounts, or addresses, that are counted; several times the hashes of a minute


class Tries:
    """Counts the wrong tries of the last WINDOW_S, by key; 0 as `tries_max` counts none."""

    def __init__(self, tries_max: int, clock: Callable[[], float] = monotonic) -> None:
        self._tries_max = tries_max
        self._clock = clock
        self._times: dict[Hashable, deque[float]] = {}  # the key with the latest try last

    def wait_s(self, key: Hashable) -> float:
        """Return in how many seconds another try is allowed; 0: now.

        Raise Overloaded if it could not be counted: those that are counted are not forgotten for it.
        """
        if not self._tries_max:
            return 0.0
        now = self._clock()
        self._forget(now)
        times = self._times.get(key)
        if times is None:
            if len(self._times) >= KEYS_MAX:
                raise Overloaded(f"the wrong passwords of {KEYS_MAX} others are being counted")
            return 0.0
        return max(0.0, times[0] + WINDOW_S - now) if len(times) == self._tries_max else 0.0

    def add(self, key: Hashable) -> None:
        """Count a try."""
        if self._tries_max:
            times = self._times.pop(key, None) or deque(maxlen=self._tries_max)
            times.append(self._clock())
            self._times[key] = times

    def take_back(self, key: Hashable) -> None:
        """Count the latest try no more."""
        times = self._times.get(key)
        if times:
            times.pop()
            if not times:
                del self._times[key]

    def _forget(self, now: float) -> None:
        """Forget the keys whose latest try is over; each costs this once."""
        while self._times:
            key = next(iter(self._times))
            if self._times[key][-1] + WINDOW_S > now:
                break
            del self._times[key]


class Throttle:
    """Refuses further tries for an account, or from an address, after too many wrong ones."""

    def __init__(self, address_tries_max: int, clock: Callable[[], float] = monotonic) -> None:
        self._trying: Counter[Hashable] = Counter()
        self._address_tries_max = address_tries_max
        self._accounts = Tries(ACCOUNT_TRIES_MAX, clock)
        self._addresses = Tries(address_tries_max, clock)

    def check_address(self, address: str) -> None:
        """Raise a 429 if there were too many wrong tries from an address."""
        _refuse_for(self._addresses.wait_s(network_of(address)), FROM_ADDRESS)

    @contextmanager
    def trying(self, account: Hashable, address: str) -> Iterator[None]:
        """Count a try that is under way, or waits. Raise a 429 if there are too many of an account, or an address.

        So that nobody, with the right password neither, takes all places of those who wait.
        """
        network = network_of(address)
        keys = [("account", account, ACCOUNT_AT_ONCE_MAX)]
        if self._address_tries_max:
            keys.append(("network", network, ADDRESS_AT_ONCE_MAX))
        if any(self._trying[key] >= key[-1] for key in keys):
            text = "Too many passwords are being verified for this user, or from this address."
            raise ProblemError(TOO_MANY_TRIES, text, headers=[(b"retry-after", b"1")])
        self._trying.update(keys)
        try:
            yield
        finally:
            self._trying.subtract(keys)
            for key in keys:
                if not self._trying[key]:
                    del self._trying[key]

    def begin(self, account: Hashable, address: str) -> None:
        """Count a try. Raise a 429 if there were too many wrong ones for an account, or from an address."""
        network = network_of(address)
        _refuse_for(self._accounts.wait_s(account), FOR_ACCOUNT)
        _refuse_for(self._addresses.wait_s(network), FROM_ADDRESS)
        self._accounts.add(account)
        self._addresses.add(network)

    def take_back(self, account: Hashable, address: str) -> None:
        """Count the latest try no more: the password was the right one."""
        self._accounts.take_back(account)
        self._addresses.take_back(network_of(address))


def network_of(address: str) -> str:
    """Return what an address is counted by: of IPv6 the first 64 bits, as one host may have all addresses below."""
    try:
        found = ip_address(address)
    except ValueError:  # of a socket of another family
        return address
    if not isinstance(found, IPv6Address):
        return address
    return str(found.ipv4_mapped or f"{int(found) >> 64:x}::/64")


def _refuse_for(seconds: float, whose: str) -> None:
    if seconds > 0:
        headers = [(b"retry-after", b"%d" % math.ceil(seconds))]
        raise ProblemError(
            TOO_MANY_TRIES, f"Too many wrong passwords were sent {whose} within a minute.", headers=headers
        )
