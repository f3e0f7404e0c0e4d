"""The narrow part of JOSE that is used here: ES256 and Ed25519, public keys by thumbprint."""

import math
from collections.abc import Mapping
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey
from joserfc.jws import JWSRegistry

from gateway.values import InvalidInput

PublicKey = ECKey | OKPKey
ALGORITHMS = ("ES256", "EdDSA", "Ed25519")  # Ed25519 is the name of EdDSA in RFC 9864.
_BY_TYPE = {"EC": ("ES256",), "OKP": ("EdDSA", "Ed25519")}


class _Registry(JWSRegistry):
    """Allows what `ALGORITHMS` names; joserfc warns at EdDSA, which most clients still send."""

    def get_alg(self, name: str) -> Any:
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


def new_key() -> ECKey:
    """A new private key for ES256, with its thumbprint as kid."""
    return ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, auto_kid=True)


def load(jwk: Mapping[str, Any]) -> PublicKey:
    """A key from its JWK, private or public.

    A registered Ed25519 key says `alg: EdDSA`, which would refuse the algorithm's other name.
    """
    given = {name: value for name, value in jwk.items() if name != "alg" or jwk.get("kty") != "OKP"}
    key = JWKRegistry.import_key(given)
    assert isinstance(key, ECKey | OKPKey)
    return key


def public_jwk(given: Mapping[str, Any], *, field: str) -> dict[str, Any]:
    """A client's public key in one form: required members, kid = RFC 7638 thumbprint.

    Raises:
        InvalidInput: Not an EC P-256 or Ed25519 key, or it holds a private part.
    """
    curve = given.get("kty"), given.get("crv")
    if curve not in (("EC", "P-256"), ("OKP", "Ed25519")):
        raise InvalidInput(field, "a public JWK: EC P-256 or OKP Ed25519")
    if "d" in given:
        raise InvalidInput(field, "the public part only; keep the private key")
    members = ("kty", "crv", "x", "y") if curve[0] == "EC" else ("kty", "crv", "x")
    if not all(isinstance(given.get(name), str) for name in members):
        raise InvalidInput(field, "a public JWK with {values}", values=members)
    plain = {name: given[name] for name in members}
    try:
        key = load(plain)
        kid = key.thumbprint()
        _ = key.public_key  # A point that is not on the curve fails here.
    except (JoseError, ValueError) as error:
        raise InvalidInput(field, "a valid public JWK") from error
    return plain | {"kid": kid, "use": "sig", "alg": "ES256" if curve[0] == "EC" else "EdDSA"}


def header(token: str) -> dict[str, Any]:
    """The header of a compact JWS, not verified.

    Raises:
        JoseError: It cannot be read.
    """
    registry = _Registry(algorithms=ALGORITHMS)
    try:
        return dict(jws.extract_compact(token.encode(), None, registry).headers())
    except (ValueError, TypeError, AttributeError) as error:
        raise JoseError(description="unreadable") from error


def decode(token: str, key: PublicKey) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a JWT signed with `key`, by an algorithm of that key's type.

    Raises:
        JoseError: Not readable, another algorithm, or not signed with that key.
    """
    registry = _Registry(algorithms=_BY_TYPE[key.key_type])
    try:
        token_ = jwt.decode(token, key, registry=registry)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise JoseError(description="unreadable") from error
    return dict(token_.header), dict(token_.claims)


def encode(claims: Mapping[str, Any], key: PublicKey, *, typ: str) -> str:
    """A JWT signed with one key, which it names."""
    algorithm = _BY_TYPE[key.key_type][0]
    signed_with = {"alg": algorithm, "typ": typ, "kid": key.kid or key.thumbprint()}
    registry = _Registry(algorithms=ALGORITHMS)
    return jwt.encode(signed_with, dict(claims), key, registry=registry)


def sign_detached(payload: bytes, key: PublicKey) -> str:
    """A compact JWS over `payload` without the payload in it."""
    protected = {"alg": _BY_TYPE[key.key_type][0], "kid": key.kid or key.thumbprint()}
    registry = _Registry(algorithms=ALGORITHMS)
    whole = jws.serialize_compact(protected, payload, key, registry=registry)
    return jws.detach_content(whole)


def verify_detached(signature: str, payload: bytes, key: PublicKey) -> None:
    """Check a detached JWS over exactly these bytes.

    Raises:
        JoseError: It does not fit.
    """
    _, _, rest = signature.partition(".")
    if not rest.startswith(".") or "." in rest[1:]:
        raise JoseError(description="not detached")
    registry = _Registry(algorithms=_BY_TYPE[key.key_type])
    try:
        jws.deserialize_compact(signature, key, registry=registry, payload=payload)
    except (ValueError, TypeError, AttributeError) as error:
        raise JoseError(description="unreadable") from error


def seconds(value: object) -> float | None:
    """A NumericDate, or None for anything else (also NaN and true)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
