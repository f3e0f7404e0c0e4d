"""Detached JWS and Standard Webhooks."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from joserfc import jws, jwt
from joserfc.jwk import OKPKey

from gateway.oauth import jose, signatures
from gateway.oauth.guard import Unauthenticated

OLD = "whsec_" + base64.b64encode(b"o" * 24).decode()
NEW = "whsec_" + base64.b64encode(b"n" * 24).decode()
BODY = '{"event":"fulfil","名":"票"}'.encode()


@pytest.mark.parametrize("make", [jose.new_key, lambda: OKPKey.generate_key("Ed25519")])
def test_a_detached_signature_is_over_exactly_these_bytes(make: object) -> None:
    key = make()
    jwk = key.as_dict(private=True)
    kid = key.thumbprint()
    public = {kid: jose.public_jwk(key.as_dict(private=False), field="jwk")}
    signed = signatures.sign(BODY, jwk)
    assert ".." in signed
    assert signatures.verify(BODY, signed, public) == kid
    assert signatures.verify(BODY + b" ", signed, public) is None
    assert signatures.verify(b"", signed, public) is None
    assert signatures.verify(BODY, signed, {}) is None
    assert signatures.verify(BODY, signed[:-4] + "AAAA", public) is None
    other = {kid: jose.public_jwk(jose.new_key().as_dict(private=False), field="jwk")}
    assert signatures.verify(BODY, signed, other) is None


@pytest.mark.parametrize("name", ["EdDSA", "Ed25519"])
def test_either_name_of_the_algorithm_fits_a_registered_ed25519_key(name: str) -> None:
    """The metadata promises both: RFC 9864 renamed it."""
    key = OKPKey.generate_key("Ed25519", auto_kid=True)
    registered = jose.load(jose.public_jwk(key.as_dict(private=False), field="jwk"))
    registry = jose._Registry(algorithms=[name])
    text = jwt.encode({"alg": name}, {"sub": "merchant-M05"}, key, registry=registry)
    assert jose.decode(text, registered)[1] == {"sub": "merchant-M05"}
    whole = jws.serialize_compact({"alg": name}, BODY, key, registry=registry)
    jose.verify_detached(jws.detach_content(whole), BODY, registered)


def _event(secret: str = OLD, message_id: str = "evt_1", late: int = 0) -> dict[str, str]:
    at = datetime.now(UTC) - timedelta(seconds=late)
    return signatures.sign_event(BODY, message_id=message_id, at=at, secret=secret)


def test_either_of_two_secrets_verifies_while_they_rotate() -> None:
    for secret in (OLD, NEW):
        assert signatures.verify_event(BODY, _event(secret), [OLD, NEW]) == "evt_1"
    upper = {name.title(): value for name, value in _event().items()}
    assert signatures.verify_event(BODY, upper, [OLD]) == "evt_1"
    with pytest.raises(Unauthenticated):
        signatures.verify_event(BODY, _event(NEW), [OLD])


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "evt_2"},
        {"webhook-timestamp": "0"},
        {"webhook-timestamp": "nan"},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,é"},
        {"webhook-signature": ""},
    ],
)
def test_a_changed_event_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated):
        signatures.verify_event(BODY, _event() | change, [OLD])


def test_another_body_or_an_old_or_early_event_is_refused() -> None:
    for body, headers in (
        (BODY + b" ", _event()),
        (b"\xff", _event()),
        (BODY, _event(late=301)),
        (BODY, _event(late=-301)),
        (BODY, {}),
    ):
        with pytest.raises(Unauthenticated):
            signatures.verify_event(body, headers, [OLD])
