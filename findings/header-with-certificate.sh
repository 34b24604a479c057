#!/usr/bin/env bash
# joserfc 1.8.0 (cryptography 50.0.2): a JWT whose header has the certificate of its key in x5c, a registered parameter
# (RFC 7515, section 4.1.6), is refused, since a header may have 512 bytes, and no certificate of an RSA key is as small
# as that. strict_check_header=False, which lets unknown parameters pass, does not help: max_header_length of a registry
# has to be raised, which is an attribute of the class, and no argument. PyJWT 2.15.1 accepts the same token.
#
# Guessed before: what bounds a token is the whole of it, and a parameter that the library knows by name can be used.
#
# Seen: a header of 934 bytes: ExceededSizeError by default and with strict_check_header=False; accepted with
#       max_header_length = 4096, and by PyJWT.
#
# Source: RFC 7515, section 4.1.6 (x5c); joserfc, _rfc7515/registry.py, JWSRegistry.max_header_length and
# validate_header_size.

set -euo pipefail
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check --no-deps \
    joserfc==1.8.0 pyjwt==2.15.1 cryptography==50.0.2 cffi==2.1.1 pycparser==3.12

cat >"$work/header.py" <<'EOF'
import base64
import datetime
import sys

import jwt as pyjwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from joserfc.jws import JWSRegistry

key = generate_private_key(65537, 2048)
name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
start = datetime.datetime(2026, 1, 1)
builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + datetime.timedelta(days=3650))
certificate = builder.sign(key, SHA256()).public_bytes(Encoding.DER)
token = pyjwt.encode({"sub": "ada"}, key, "RS256", {"x5c": [base64.b64encode(certificate).decode()]})
header = len(base64.urlsafe_b64decode(token.split(".")[0] + "=="))


class Larger(JWSRegistry):
    max_header_length = 4096


def read(registry):
    try:
        return jwt.decode(token, RSAKey.import_key(key.public_key()), registry=registry).claims["sub"]
    except JoseError as error:
        return type(error).__name__


seen = [read(JWSRegistry(algorithms=["RS256"])), read(JWSRegistry(algorithms=["RS256"], strict_check_header=False))]
seen += [read(Larger(algorithms=["RS256"])), pyjwt.decode(token, key.public_key(), ["RS256"])["sub"]]
print(f"a header of {header} bytes: {', '.join(seen)}")
if seen != ["ExceededSizeError", "ExceededSizeError", "ada", "ada"]:
    sys.exit("CHANGED: expected two ExceededSizeError, and ada twice")
EOF

"$work/venv/bin/python" -W error "$work/header.py"
