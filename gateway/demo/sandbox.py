"""The sandbox around a gateway: its partners' stand-ins, their keys, secrets and planted faults.

One folder holds it all (mode 0700): simulators.json and their state, partners.json for the
gateway. Everything secret is made at random when the folder is made.
"""

import base64
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from joserfc.jwk import ECKey

from gateway.demo.data import catalog, demo_day
from gateway.members.model import pseudonym

ADAPTERS = {"M02": "car_shops", "M03": "hotels", "M05": "cinemas", "M07": "rides"}
OWN_SERVICES = {"M03": "yunqi-graph"}  # Services of merchants that ask their issuer about tokens.
SECRET_ONLY = frozenset({"M05"})  # The cinema's sandbox knows no keys.


def build(*, pseudonym_secret: bytes, gateway_url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Configurations of the simulators and of the gateway's connections to them.

    Returns:
        The simulators' document; and the connections by merchant, without addresses.
    """
    stands, connections = [], {}
    for row in catalog()["merchants"]:
        merchant = row["id"]
        webhook_secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        client, auth = _credentials(merchant)
        stands.append(
            {
                "id": merchant,
                "kind": ADAPTERS.get(merchant, "graphql"),
                "clients": [client, *_own_service(merchant)],
                "webhook": {"url": f"{gateway_url}/events/{merchant}", "secret": webhook_secret},
                "rates": _rates(merchant),
                "offers": [offer for offer in catalog()["offers"] if offer["merchant"] == merchant],
                "stores": [store for store in catalog()["stores"] if store["merchant"] == merchant],
                "hidden_slots": {"SH-01": ["08:00"]} if merchant == "M12" else {},
                "faults": _faults(merchant, pseudonym_secret),
            }
        )
        connections[merchant] = {
            "merchant": merchant,
            "adapter": ADAPTERS.get(merchant, "graphql"),
            "auth": auth,
            "webhook_secret": webhook_secret,
        }
    control = {"port": 0, "token": secrets.token_urlsafe(24)}
    return {"control": control, "merchants": stands}, connections


def _credentials(merchant: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """How the gateway is known at a merchant: the merchant's half, and ours."""
    client_id = "coalition-gateway"
    if merchant in SECRET_ONLY:
        secret = secrets.token_urlsafe(32)
        basic = {"method": "client_secret_basic", "client_id": client_id, "secret": secret}
        return {"client_id": client_id, "secret": secret}, basic
    key = ECKey.generate_key("P-256", auto_kid=True)
    public, private = key.as_dict(private=False), key.as_dict(private=True)
    ours = {"method": "private_key_jwt", "client_id": client_id, "key": private}
    return {"client_id": client_id, "jwks": {"keys": [public]}}, ours


def _own_service(merchant: str) -> list[dict[str, Any]]:
    """The merchant's own other service, as its issuer knows it."""
    if (name := OWN_SERVICES.get(merchant)) is None:
        return []
    return [{"client_id": name, "secret": secrets.token_urlsafe(32), "scopes": "introspection"}]


def _rates(merchant: str) -> dict[str, int]:
    """What each issuer pays this merchant, as the merchant's own copy of the agreements says."""
    return {
        row["issuer"]: row["settlement_bps"]
        for row in catalog()["agreements"]
        if row["redeemer"] == merchant and row["kind"] == "redemption"
    }


def _faults(merchant: str, pseudonym_secret: bytes) -> list[dict[str, Any]]:
    """The day's planted faults; a partner knows members by pseudonym only."""
    faults = []
    for row in demo_day()["simulator_faults"]:
        if row["merchant"] == merchant and row["fault"] != "connection_refused":
            ref = pseudonym(pseudonym_secret, merchant, row["member"])
            fault: dict[str, Any] = {
                "member_ref": ref,
                "offer_id": row["offer"],
                "fault": row["fault"],
            }
            faults.append(fault | ({"value": row["value"]} if "value" in row else {}))
    return faults


def connect(connections: Mapping[str, Any], ports: Mapping[str, int]) -> list[dict[str, Any]]:
    """Complete the connections with the addresses the simulators listen on."""
    made = []
    for merchant, row in connections.items():
        url = f"http://127.0.0.1:{ports[merchant]}"
        made.append(row | {"base_url": url, "token_url": f"{url}/oauth/token", "audience": url})
    return made


def write_secret(path: Path, document: object) -> None:
    """Write JSON that only this user may read, whole or not at all."""
    made = path.with_suffix(".new")
    made.unlink(missing_ok=True)
    with os.fdopen(os.open(made, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
        json.dump(document, file, ensure_ascii=False, indent=1)
    made.replace(path)
