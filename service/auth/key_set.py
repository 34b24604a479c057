"""A key set (JWK Set, RFC 7517): which of its keys verify tokens, and how a token names them."""

from base64 import urlsafe_b64decode
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key
from joserfc.jws import JWSRegistry
from msgspec import MsgspecError, Raw, Struct, json, to_builtins

KEYS_MAX = 100
# RFC 7518, section 3.3. A signature of 8192 bits takes some 200 µs to verify, and more does not add to the safety.
RSA_BITS_MIN, RSA_BITS_MAX = 2048, 8192
SIGNING_CURVES = {"P-256", "P-384", "P-521", "Ed25519", "Ed448"}


class InvalidKeySet(Exception):
    """A text is no key set, or has no key that can be used; the text says why."""


class Jwk(Struct, frozen=True, omit_defaults=True):
    """What is used of a key: the parameters of a public one, and `d`, which only a private one has."""

    kty: str
    kid: str | None = None
    use: str | None = None
    key_ops: tuple[str, ...] | None = None
    alg: str | None = None
    n: str | None = None
    e: str | None = None
    crv: str | None = None
    x: str | None = None
    y: str | None = None
    d: object = None

    @property
    def material(self) -> tuple[str | None, ...]:
        """The key itself, however it is described."""
        return self.kty, self.crv, self.n, self.e, self.x, self.y


class _Jwks(Struct):
    keys: list[Raw]


class VerifyingKey(NamedTuple):
    """A key that verifies signatures; `jwk` compares it with those of another set."""

    jwk: Jwk
    key: Key


class KeySet:
    """The keys of a set, by id and algorithm. `skipped` says which were left out, and why."""

    def __init__(self, keys: Sequence[VerifyingKey], algorithms: Collection[str], skipped: Sequence[str] = ()) -> None:
        self.skipped = skipped
        self._by_id: dict[tuple[str, str], VerifyingKey] = {}
        self._by_algorithm: dict[str, list[VerifyingKey]] = {}
        for key in keys:
            for algorithm in algorithms:
                if _fits(key, algorithm):
                    self._by_algorithm.setdefault(algorithm, []).append(key)
                    if key.jwk.kid is not None:
                        self._by_id.setdefault((key.jwk.kid, algorithm), key)
        self.ids = sorted({kid for kid, _ in self._by_id})

    def __bool__(self) -> bool:
        return bool(self._by_algorithm)

    def find(self, kid: str | None, algorithm: str) -> VerifyingKey | None:
        """Return the key with an id; without one, the only key for the algorithm, if there is only one."""
        if kid is not None:
            return self._by_id.get((kid, algorithm))
        keys = self._by_algorithm.get(algorithm, ())
        return keys[0] if len(keys) == 1 else None


def read_key_set(content: bytes, algorithms: Collection[str]) -> KeySet:
    """Return the keys of a set that fit an algorithm. Raise InvalidKeySet if there is none.

    A key that cannot be used is left out (RFC 7517, section 5): issuers publish others beside those of tokens.
    """
    try:
        found = json.decode(content, type=_Jwks).keys
    except (MsgspecError, ValueError, RecursionError):
        raise InvalidKeySet('it is no JSON object with "keys"') from None
    if len(found) > KEYS_MAX:
        raise InvalidKeySet(f"it has more than {KEYS_MAX} keys")
    keys: list[VerifyingKey] = []
    skipped: list[str] = []
    for position, raw in enumerate(found):
        try:
            keys.append(_verifying_key(raw))
        except InvalidKeySet as error:
            skipped.append(f"keys[{position}]: {error}")
    key_set = KeySet(keys, algorithms, skipped)
    if not key_set:
        if not found:
            raise InvalidKeySet("it has no keys")
        reasons = "; ".join(skipped) or f"it has {len(keys)}, for others than {', '.join(sorted(algorithms))}"
        raise InvalidKeySet(f"it has no key that can be used ({reasons})")
    return key_set


def _verifying_key(raw: Raw) -> VerifyingKey:
    """Return a key. Raise InvalidKeySet if it cannot verify signatures, or should not."""
    try:
        jwk = json.decode(raw, type=Jwk)
        obstacle = _obstacle(jwk)
        if not obstacle:
            parameters: dict[str, Any] = to_builtins(jwk)
            for name in ("use", "key_ops"):  # the one was looked at, and joserfc refuses some values of both together
                parameters.pop(name, None)
            return VerifyingKey(jwk, JWKRegistry.import_key(parameters))
    except (MsgspecError, JoseError, ValueError, TypeError, RecursionError) as error:
        # joserfc 1.8 raises ValueError for numbers that make no key.
        obstacle = f"it is malformed ({type(error).__name__})"
    raise InvalidKeySet(obstacle)


def _obstacle(jwk: Jwk) -> str:
    """Return why a key is not used, or ""."""
    if jwk.kty not in {"RSA", "EC", "OKP"}:
        return f"the type {jwk.kty!a} is not used"
    if jwk.d is not None:
        return "it is a private key, which must not be where public ones are"
    if jwk.use not in {None, "sig"} or (jwk.key_ops is not None and "verify" not in jwk.key_ops):
        return "it is not for signatures"
    if jwk.kty != "RSA":
        return "" if jwk.crv in SIGNING_CURVES else f"the curve {jwk.crv!a} is not used"
    bits = int.from_bytes(urlsafe_b64decode((jwk.n or "") + "==")).bit_length()
    return "" if RSA_BITS_MIN <= bits <= RSA_BITS_MAX else f"it has {bits} bits"


def _fits(key: VerifyingKey, algorithm: str) -> bool:
    """Return whether a key's type, curve and `alg` are those of an algorithm."""
    try:
        JWSRegistry.algorithms[algorithm].check_key(key.key)
    except JoseError:
        return False
    return True
