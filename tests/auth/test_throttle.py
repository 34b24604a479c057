"""The throttle of those who sign in: how many wrong tries a minute has, for whom, and in how much memory."""

import pytest

from db.errors import Overloaded
from service.auth.throttle import ACCOUNT_TRIES_MAX, KEYS_MAX, WINDOW_S, Throttle, Tries, network_of
from service.http.problems import TOO_MANY_TRIES, ProblemError
from tests.support.callers import Clock

ADDRESS_TRIES_MAX = 60
HERE, THERE = "10.0.0.1", "10.0.0.2"


@pytest.fixture
def clock() -> Clock:
    """Return the clock of the throttle."""
    return Clock(1000.0)


@pytest.fixture
def throttle(clock: Clock) -> Throttle:
    """Return a throttle that has counted nothing."""
    return Throttle(ADDRESS_TRIES_MAX, clock)


def retry_after(throttle: Throttle, account: object = "ada", address: str = HERE) -> int | None:
    """Return how many seconds a try has to wait; None if it may be made."""
    try:
        throttle.begin(account, address)
    except ProblemError as error:
        refusal = error
    else:
        throttle.take_back(account, address)
        return None
    [(name, value)] = refusal.headers
    assert (refusal.problem_type, name) == (TOO_MANY_TRIES, b"retry-after")
    return int(value)


def test_an_account_has_ten_wrong_tries_a_minute_from_wherever_they_come(throttle: Throttle, clock: Clock) -> None:
    for second in range(ACCOUNT_TRIES_MAX):
        assert retry_after(throttle) is None
        throttle.begin("ada", f"10.0.1.{second}")
        clock.now += 1
    assert retry_after(throttle) == WINDOW_S - ACCOUNT_TRIES_MAX
    assert retry_after(throttle, "bob") is None
    clock.now += WINDOW_S - ACCOUNT_TRIES_MAX - 0.5
    assert retry_after(throttle) == 1
    clock.now += 0.5
    assert retry_after(throttle) is None  # one more, as the first is a minute old
    throttle.begin("ada", HERE)
    assert retry_after(throttle) == 1


def test_an_address_has_sixty_wrong_tries_a_minute_for_whomever_they_are(throttle: Throttle, clock: Clock) -> None:
    for number in range(ADDRESS_TRIES_MAX):
        throttle.check_address(HERE)
        throttle.begin(number, HERE)
    with pytest.raises(ProblemError):
        throttle.check_address(HERE)
    assert retry_after(throttle, "bob", HERE) == WINDOW_S
    assert retry_after(throttle, "bob", THERE) is None
    clock.now += WINDOW_S
    assert retry_after(throttle, "bob", HERE) is None


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", network_of("2001:db8:1:2::1")),
        ("fe80::1%eth0", network_of("fe80::2%eth0")),
        ("", ""),
        ("/run/service.socket", "/run/service.socket"),
    ],
)
def test_a_host_with_many_addresses_of_ipv6_is_one(address: str, network: str) -> None:
    assert network_of(address) == network
    assert network_of("2001:db8:1:3::1") != network_of("2001:db8:1:2::1")


def test_an_address_is_not_counted_where_that_is_off(clock: Clock) -> None:
    throttle = Throttle(0, clock)
    for number in range(1000):
        throttle.begin(number, HERE)
    throttle.check_address(HERE)
    assert retry_after(throttle, "bob") is None


def test_names_of_nobody_push_out_no_count_and_are_forgotten_after_a_minute(clock: Clock) -> None:
    tries = Tries(ACCOUNT_TRIES_MAX, clock)
    for _ in range(ACCOUNT_TRIES_MAX):
        tries.add("ada")
    for number in range(KEYS_MAX - 1):
        tries.add(number)
    assert tries.wait_s("ada") == WINDOW_S
    with pytest.raises(Overloaded):
        tries.wait_s("another one")
    assert tries.wait_s(1) == 0
    clock.now += WINDOW_S - 1
    tries.add("ada")
    clock.now += 1
    assert tries.wait_s("another one") == tries.wait_s("ada") == 0
    assert list(tries._times) == ["ada"]
