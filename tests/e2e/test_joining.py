"""docs/joining.md, played from its first block to its last against `gateway serve`."""

import json
import re
from pathlib import Path
from typing import Any

from joserfc.jwk import ECKey

from gateway.demo import tokens
from gateway.demo.clients import Wire
from gateway.settings import Settings
from tests.e2e.test_serve import ROOT, home, served

__all__ = ["home"]
PAGE = (ROOT / "docs/joining.md").read_text("utf-8")
BLOCKS = re.findall(r"^```graphql\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
# Placeholder of the page -> where an answer has what stands for it.
FOUND = {
    "ONBOARDING_CODE": ("registerMerchant", "onboardingCode"),
    "AGREEMENT": ("proposeAgreement", "agreement", "id"),
    "VOUCHER": ("redeemOffer", "redemption", "voucher", "code"),
    "BUDGET": ("proposeBudget", "budget", "id"),
}


async def test_a_merchant_joins_as_the_page_says(home: Path) -> None:
    known: dict[str, str] = {}
    said: dict[str, Any] = {}
    with served(home) as (url, _):
        known |= _new_key(home / "sandbox/keys/M17.json")
        for block in BLOCKS:
            text = block
            for name, value in known.items():
                text = text.replace(f'"{name}"', json.dumps(value))
            answer = await _ask(Settings(home=home, issuer=url), text)
            assert "errors" not in answer, answer
            for field, payload in answer["data"].items():
                assert payload["errors"] == [], (field, payload)
            said |= answer["data"]
            known |= {name: _at(said, path) for name, path in FOUND.items() if path[0] in said}
    assert said["startConformanceRun"]["run"]["failed"] == 0
    assert said["verifyVoucher"]["redemption"]["state"] == "FULFILLED"
    assert said["recordEarnEvent"]["earning"]["points"] == 128


def _new_key(path: Path) -> dict[str, str]:
    key = ECKey.generate_key("P-256", auto_kid=True)
    path.write_text(json.dumps(key.as_dict(private=True)))
    public = key.as_dict(private=False)
    return {"KEY_X": str(public["x"]), "KEY_Y": str(public["y"])}


async def _ask(settings: Settings, text: str) -> dict[str, Any]:
    headers = {}
    if who := re.match(r"# as (\S+)", text):
        headers["authorization"] = f"Bearer {await tokens.token(settings, who[1])}"
    wire = Wire.open(settings.base_url)
    try:
        answer = await wire.http.post(
            f"{settings.base_url}/graphql", json={"query": text}, headers=headers
        )
    finally:
        await wire.aclose()
    found: dict[str, Any] = answer.json()
    return found


def _at(said: dict[str, Any], path: tuple[str, ...]) -> str:
    found: Any = said
    for name in path:
        found = found[name]
    return str(found)
