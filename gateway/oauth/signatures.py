"""Signatures outside of tokens: detached JWS over bytes, and Standard Webhooks.

A settlement acknowledgement is signed with a merchant's registered key (`service.
verify_signature` finds it). Events in both directions carry Standard Webhooks signatures.
"""

import binascii
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from joserfc.errors import JoseError
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.oauth import jose
from gateway.oauth.guard import Unauthenticated


def sign(payload: bytes, jwk: Mapping[str, Any]) -> str:
    """A detached JWS (`header..signature`) over these bytes, by a private JWK.

    ES256 for an EC P-256 key, EdDSA for an Ed25519 one; the header names the key's thumbprint.
    """
    return jose.sign_detached(payload, jose.load(jwk))


def verify(payload: bytes, signature: str, jwks: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The kid of the key, among these by kid, that signed exactly these bytes; else None."""
    try:
        kid = jose.header(signature).get("kid")
        if not isinstance(kid, str) or kid not in jwks:
            return None
        jose.verify_detached(signature, payload, jose.load(jwks[kid]))
    except JoseError:
        return None
    return kid


def sign_event(body: bytes, *, message_id: str, at: datetime, secret: str) -> dict[str, str]:
    """The headers of an event we send.

    Args:
        message_id: The same at every retry.
        at: System time, UTC.
        secret: `whsec_…`.
    """
    signature = Webhook(secret).sign(message_id, at, body.decode())
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": signature,
    }


def verify_event(body: bytes, headers: Mapping[str, str], secrets: Sequence[str]) -> str:
    """Check an event over its raw bytes, with any of these secrets (two while they rotate).

    Returns:
        The event's `webhook-id`, to be stored once.

    Raises:
        Unauthenticated: No signature fits, or it is more than 5 minutes away from system time.
    """
    given = {name.lower(): value for name, value in headers.items()}
    for secret in secrets:
        try:
            Webhook(secret).verify(body, given, json_parse=False)
        except (WebhookVerificationError, ValueError, binascii.Error):
            continue
        return given["webhook-id"]
    raise Unauthenticated
