"""The way in with a JWT (RFC 7519) of an issuer that the settings name: any bearer text that is no stored token.

    the text -> malformed, or of an algorithm that is not allowed: refused at once
             -> looked up: its key, which may be waited for; its signature and claims; the user that it names

A look-up in the background verifies no signature again: the token counts for as long as its key is in the key set.
What a user may do follows from the role that is stored here, and not from the token, which may only claim less.
"""

import logging
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from time import time
from typing import Any, NamedTuple, Protocol

from joserfc import jwt
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jws import JWSRegistry
from msgspec import MsgspecError, Struct, json

from db.types import fold
from service.auth.identity import Credential, Identity
from service.auth.jwks import Keys
from service.auth.key_set import Jwk, VerifyingKey
from service.auth.key_source import FileSource, UrlSource
from service.auth.principal import principal_of
from service.jwks_location import location
from service.observability.counted import CountedWarning
from service.settings import Settings

log = logging.getLogger(__name__)

LEEWAY_S = 30  # of the issuer's clock
JOSE_HEADER_BYTES_MAX = 8192  # no less than of the whole token: it may have certificates (x5c)
SUBJECT_CHARACTERS_MAX = 254  # of an email, which is longer than any username
# Of access tokens and tokens without a purpose of their own (RFC 8725, section 3.11; SPIFFE has JOSE).
TYPES = {"jwt", "at+jwt", "application/jwt", "application/at+jwt", "jose"}
EMAIL = "email"
IS_VERIFIED = (True, "true")  # as some issuers write it
# What joserfc raises for a token that is not valid: beside its own errors, those of JSON that is nested too deeply or
# has numbers too long (1.8 lets them through).
ERRORS = (JoseError, MsgspecError, ValueError, TypeError, RecursionError)


class NamedUser(Protocol):
    """A user, as a token names one."""

    @property
    def user_id(self) -> int:
        """Return the user's id."""

    @property
    def role(self) -> str:
        """Return the user's role."""

    @property
    def is_active(self) -> bool:
        """Return whether the user may sign in."""


# Returns the user with a username, else the one with an email. Raises the errors of db.errors.
FindUser = Callable[[str], Awaitable[NamedUser | None]]


class JwtRules(NamedTuple):
    """Which tokens are valid, and how their claims are read."""

    issuer: str
    audience: str
    algorithms: Collection[str]
    subject_claim: str
    scope_claim: str  # "": a token limits no scopes


class Header(Struct, frozen=True):
    """What is used of a JOSE header (RFC 7515, section 4); others are to be ignored."""

    alg: str
    kid: str | None = None
    typ: str = "JWT"
    crit: object = None


class Verified(NamedTuple):
    """What a token says, and the key that verified it."""

    jwk: Jwk
    subject: str
    scopes: frozenset[str] | None
    expires_at: float


class _Registry(JWSRegistry):
    """The algorithms that are allowed, without the warning of RFC 9864 about the name EdDSA."""

    max_header_length = JOSE_HEADER_BYTES_MAX

    def get_alg(self, name: str) -> Any:  # JWSAlgModel, which joserfc exports from no module
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


class JwtTokens:
    """Reads tokens, verifies them, and looks up whose they are."""

    def __init__(
        self, keys: Keys, rules: JwtRules, find_user: FindUser, *, wall_clock: Callable[[], float] = time
    ) -> None:
        self._keys, self._rules, self._find_user = keys, rules, find_user
        # RFC 7515, section 4: header parameters that are not understood are to be ignored.
        self._registry = _Registry(algorithms=rules.algorithms, strict_check_header=False)
        self._refusals = CountedWarning(log, "JWTs refused", "refused")
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: int(wall_clock()),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": rules.issuer},
            aud={"essential": True, "value": rules.audience},
            exp={"essential": True},
        )

    def read(self, text: str) -> Credential | None:
        """Return the credential in a token; None for what is none, or of a type or algorithm that is not allowed."""
        try:
            header = json.decode(urlsafe_b64decode(text.partition(".")[0] + "=="), type=Header)
        except ERRORS:
            return None
        # No extension that must be understood is (RFC 7515, section 4.1.11).
        is_allowed = header.alg in self._rules.algorithms and header.typ.lower() in TYPES and header.crit is None
        if not is_allowed:
            self._refused("its alg or typ is not one that is allowed, or it has crit")
            return None
        return _Credential(self, text, header)

    async def find_key(self, header: Header) -> VerifyingKey | None:
        """Return the key that a token names. Raise a 503 if it is not known which keys there are."""
        key = await self._keys.find(header.kid, header.alg)
        if key is None:
            self._refused("the issuer has no such key for this algorithm")
        return key

    def _refused(self, why: str) -> None:
        """Note why a token is refused, which its sender is not told; it is nothing that the token has in it."""
        self._refusals.add(error=why)

    def verify(self, text: str, key: VerifyingKey) -> Verified | None:
        """Return what a token says; None if it is not valid."""
        try:
            claims = jwt.decode(text, key.key, registry=self._registry).claims
            self._claims.validate(claims)
        except ERRORS as error:
            self._refused(f"{type(error).__name__} {getattr(error, 'claim', '')}".strip())
            return None
        subject = self._subject(claims)
        scopes = _scopes(claims.get(self._rules.scope_claim)) if self._rules.scope_claim else None
        if subject is None:
            self._refused(f"the claim {self._rules.subject_claim} has no name, or no verified email")
            return None
        if self._rules.scope_claim and scopes is None:
            self._refused(f"the claim {self._rules.scope_claim} has another form")
            return None
        return Verified(key.jwk, subject, scopes, claims["exp"] + LEEWAY_S)

    def _subject(self, claims: Mapping[str, Any]) -> str | None:
        """Return the name of the user. An email counts unless the issuer says that it did not verify it.

        If the claim is `email` the issuer has to say that it did (OpenID Connect Core 1.0, section 5.1).
        """
        subject = claims.get(self._rules.subject_claim)
        if not isinstance(subject, str) or not 1 <= len(subject) <= SUBJECT_CHARACTERS_MAX or not subject.isprintable():
            return None
        is_email = "@" in subject  # which no username has
        if self._rules.subject_claim == EMAIL and not is_email:  # it would be taken for a username
            return None
        if is_email and claims.get("email_verified", self._rules.subject_claim != EMAIL) not in IS_VERIFIED:
            return None
        if not subject.isascii() and fold(subject).isascii():  # such as a long s: another mailbox than that of the user
            return None
        return subject

    async def identify(self, verified: Verified) -> Identity | None:
        """Return who comes with a valid token; None for nobody who may."""
        user = await self._find_user(verified.subject)
        if user is None or not user.is_active:
            self._refused(f"the claim {self._rules.subject_claim} names no user who may sign in")
            return None
        return Identity(principal_of(user.user_id, user.role, verified.scopes), verified.expires_at)


class _Credential:
    """A token that was read; once it is verified, its text is not kept."""

    __slots__ = ("_header", "_text", "_tokens", "_verified")

    def __init__(self, tokens: JwtTokens, text: str, header: Header) -> None:
        self._tokens, self._text, self._header = tokens, text, header
        self._verified: Verified | None = None

    async def __call__(self) -> Identity | None:
        """Return who comes with the token. Raise a 503, and the errors of db.errors."""
        key = await self._tokens.find_key(self._header)
        if key is None:
            return None
        verified = self._verified or self._tokens.verify(self._text, key)
        if verified is None or verified.jwk.material != key.jwk.material:
            return None
        self._verified, self._text = verified, ""
        return await self._tokens.identify(verified)


def _scopes(claim: object) -> frozenset[str] | None:
    """Return the scopes in a claim: a text with spaces, as RFC 8693 has it, or an array; none without the claim.

    Return None for a claim of another form.
    """
    if claim is None:
        return frozenset()
    if isinstance(claim, str):
        return frozenset(claim.split())
    if isinstance(claim, list) and all(isinstance(each, str) for each in claim):
        return frozenset(claim)
    return None


def jwt_tokens(settings: Settings, find_user: FindUser) -> tuple[Keys, JwtTokens]:
    """Return the keys of the issuer that settings name, which are to be entered, and what reads its tokens."""
    place = location(settings.jwt_jwks)
    source = FileSource(place) if isinstance(place, Path) else UrlSource(place)
    keys = Keys(source, settings.jwt_algorithms)
    rules = JwtRules(
        settings.jwt_issuer,
        settings.jwt_audience,
        settings.jwt_algorithms,
        settings.jwt_subject_claim,
        settings.jwt_scope_claim,
    )
    return keys, JwtTokens(keys, rules, find_user)
