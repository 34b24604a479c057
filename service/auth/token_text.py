"""The text of a token: `itm_`, 160 random bits, and a checksum by which a mistyped one is known without a look-up.

The prefix lets scanners find a token that leaked, and the checksum tells it from any other text of its form.
"""

import re
from hashlib import sha256
from secrets import randbits
from typing import NamedTuple
from zlib import crc32

PREFIX = "itm_"
SECRET_BITS = 160
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SECRET_DIGITS = 27  # of 160 bits
CHECKSUM_DIGITS = 6  # of 32 bits
LOOKUP_CHARACTERS = len(PREFIX) + 8
TOKEN = re.compile(f"{PREFIX}[0-9A-Za-z]{{{SECRET_DIGITS + CHECKSUM_DIGITS}}}")


class TokenDigest(NamedTuple):
    """What is stored of a token: its first characters, by which it is looked up and known to its owner, and a digest.

    The digest is a plain SHA-256, as nobody can guess 160 random bits, and it is computed for every request.
    """

    prefix: str
    digest: str  # in hexadecimal


def new_token() -> str:
    """Return the text of a new token."""
    secret = _digits(randbits(SECRET_BITS), SECRET_DIGITS)
    return PREFIX + secret + _checksum(secret)


def digest_of(text: str) -> TokenDigest | None:
    """Return the digest of a token; None for a text that is none, which nobody has to look up."""
    if not TOKEN.fullmatch(text):
        return None
    secret = text[len(PREFIX) : -CHECKSUM_DIGITS]
    if _checksum(secret) != text[-CHECKSUM_DIGITS:]:
        return None
    return TokenDigest(text[:LOOKUP_CHARACTERS], sha256(text.encode()).hexdigest())


def _checksum(secret: str) -> str:
    return _digits(crc32(secret.encode()), CHECKSUM_DIGITS)


def _digits(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, len(DIGITS))
        digits.append(DIGITS[digit])
    return "".join(reversed(digits))
