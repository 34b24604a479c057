"""Signing in with a name and a password, by the authentication scheme Basic (RFC 7617)."""

import binascii
import logging
from base64 import b64decode
from collections.abc import Awaitable, Callable
from typing import NamedTuple, NoReturn

from db.errors import DatabaseError
from db.resources.tokens import UserCaller
from db.tables.call import Call
from db.types import fold
from service.auth.throttle import Throttle
from service.http.problems import INVALID_CREDENTIALS, ProblemError
from service.http.response import Header
from service.passwords import Passwords

log = logging.getLogger(__name__)

# RFC 7617, section 2.1: `charset` asks clients for UTF-8.
CHALLENGE: Header = (b"www-authenticate", b'Basic realm="items", charset="UTF-8"')
HEADER_BYTES_MAX = 8192  # the longest password, of 1024 characters with four bytes each, and a name, in base64
MALFORMED = "The header Authorization must have a name and a password (Basic)."
NAME_CHARACTERS_MAX = 255  # of an email; no user has a longer one

# Returns the user with a username or an email, by a deadline. Raises the errors of db.errors.
FindUser = Callable[[str, float], Awaitable[UserCaller | None]]
# Stores a new hash of a user's password in the place of another one. Raises the errors of db.errors.
Rehash = Callable[[Call, int, str, str], Awaitable[None]]


class Credentials(NamedTuple):
    """A name and a password, as a client sent them."""

    name: str
    password: str

    def __repr__(self) -> str:
        """Show neither: people type the password into the field of the name."""
        return "Credentials(...)"


class Login:
    """Finds the user of a name and a password, and counts the wrong ones.

    All refusals look alike, and take as long: of an unknown name, a wrong password, a user without one or one who may
    not sign in.
    """

    def __init__(self, find_user: FindUser, rehash: Rehash, passwords: Passwords, throttle: Throttle) -> None:
        self._find_user, self._rehash = find_user, rehash
        self._passwords, self._throttle = passwords, throttle

    async def authenticate(self, authorization: bytes | None, address: str, deadline: float) -> int:
        """Return the id of the user in a header Authorization, before a deadline by the loop's clock.

        Raise a 401, a 429 after too many wrong tries, which counts also for the right password, and the errors of
        db.errors.
        """
        credentials = read_credentials(authorization)
        self._throttle.check_address(address)
        is_possible = len(credentials.name) <= NAME_CHARACTERS_MAX
        user = await self._find_user(credentials.name, deadline) if is_possible else None
        # By the user, so that the name and the email have one count; a name of nobody is counted, too: a 429 tells
        # nothing of who there is.
        account = _account_of_nobody(credentials.name) if user is None else user.user_id
        stored = user and user.password_hash
        with self._throttle.trying(account, address):
            found = await self._passwords.verify(
                stored, credentials.password, deadline, lambda: self._throttle.begin(account, address)
            )
        if not found.is_right or user is None or not user.is_active:
            refuse()
        self._throttle.take_back(account, address)  # before another one has its turn
        if stored and found.new_hash:
            await self._store(user.user_id, stored, found.new_hash, deadline)
        return user.user_id

    async def _store(self, user_id: int, before: str, after: str, deadline: float) -> None:
        """Store a hash with the parameters of today; without it, the next time will do."""
        try:
            await self._rehash(Call(deadline=deadline, caller=user_id), user_id, before, after)
        except DatabaseError as error:
            log.warning("the password of the user %d was not hashed anew: %s", user_id, error)


def _account_of_nobody(name: str) -> str:
    """Return what the tries for a name of nobody are counted by: equal names are those that would lead to one user."""
    return fold(name[:NAME_CHARACTERS_MAX]) if "@" in name else name[:NAME_CHARACTERS_MAX]


def read_credentials(authorization: bytes | None) -> Credentials:
    """Return the name and the password in a header Authorization. Raise a 401."""
    scheme, _, encoded = (authorization or b"").partition(b" ")
    if scheme.lower() != b"basic" or len(encoded) > HEADER_BYTES_MAX:
        refuse(MALFORMED)
    try:
        name, colon, password = b64decode(encoded.strip(b" "), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        refuse(MALFORMED)
    if not colon:
        refuse(MALFORMED)
    return Credentials(name, password)


def refuse(text: str = "The name or the password is wrong.") -> NoReturn:
    """Raise a 401."""
    raise ProblemError(INVALID_CREDENTIALS, text, headers=[CHALLENGE])
