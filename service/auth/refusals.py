"""The 401 to a request without a credential, and to one whose credential is that of nobody."""

from typing import NoReturn

from service.http.problems import INVALID_TOKEN, UNAUTHENTICATED, ProblemError
from service.http.response import Header

# RFC 6750, section 3, wants a parameter after the scheme.
CHALLENGE: Header = (b"www-authenticate", b'Bearer realm="items"')
INVALID_CHALLENGE: Header = (b"www-authenticate", b'Bearer realm="items", error="invalid_token"')


def refuse_nobody(*, takes_tokens: bool) -> NoReturn:
    """Raise the 401 to a request without a credential."""
    what = "The header Authorization must have a token." if takes_tokens else "A client certificate is needed."
    raise ProblemError(UNAUTHENTICATED, what, headers=[CHALLENGE])


def refuse(authorization: bytes | None) -> NoReturn:
    """Raise the 401 to a request with a header Authorization, or without one with a client certificate."""
    if authorization is None:
        what = "The names in the client certificate are not those of a user who may come in."
        raise ProblemError(UNAUTHENTICATED, what, headers=[CHALLENGE])
    raise ProblemError(INVALID_TOKEN, "The token is not valid.", headers=[INVALID_CHALLENGE])
