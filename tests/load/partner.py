"""Partners that answer at once, for all merchants, in one process: contract.graphql over HTTP.

Each merchant is a path of its own. Tokens by client credentials; every call shows one. An op key
acts once and its fact can be asked for. No GraphQL is parsed: the adapter's documents are known.

    python -m tests.load.partner SECRET      prints its port; ends with its standard input
    POST /facts                              how many op keys ended how, and what was asked
"""

import asyncio
import base64
import json
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from partners.graphql import DOCUMENTS
from tests.load.wire import Answering

FIELDS = {text: name for name, text in DOCUMENTS.items()}
LATER = "2030-01-01T00:00:00+00:00"
CLIENT = "coalition-gateway"


class Shops:
    """What they remember: the fact of each op key.

    Args:
        secret: What the gateway's client authenticates with.
        prices: Price of each offer, in fen.
    """

    def __init__(self, secret: str, prices: Mapping[str, int]) -> None:
        self._basic = b"basic " + base64.b64encode(f"{CLIENT}:{secret}".encode()).lower()
        self._prices = prices
        self._tokens: set[bytes] = set()
        self._facts: dict[str, dict[str, Any]] = {}
        self._number = 0
        self.asked: dict[str, int] = dict.fromkeys(DOCUMENTS, 0)
        self._verbs: dict[str, Callable[[dict[str, Any]], Any]] = {
            "offers": lambda _: {"offers": [], "cursor": "1", "more": False},
            "live": lambda _: [],
            "quote": self._quote,
            "hold": self._hold,
            "confirm": self._confirm,
            "status": lambda asked: self._fact(asked["opKey"]),
            "fence": self._fence,
            "cancelQuote": self._cancel_quote,
            "cancel": self._cancel,
            "settlementNotice": self._notice,
        }

    def answer(self, head: bytes, body: bytes) -> tuple[int, bytes]:
        if b" /facts " in head[:40]:
            counted = Counter(fact["outcome"] for fact in self._facts.values())
            return 200, json.dumps({"outcomes": counted, "asked": self.asked}).encode()
        shown = _authorization(head)
        if b"/oauth/token" in head[:200].split(b"\r\n", 1)[0]:
            return self._token(shown)
        if shown[7:] not in self._tokens:
            return 401, b"{}"
        asked = json.loads(body)
        field = FIELDS[asked["query"]]
        self.asked[field] += 1
        variables = asked["variables"]
        data = self._verbs[field](variables.get("input", variables))
        return 200, json.dumps({"data": {field: data}}).encode()

    def _token(self, shown: bytes) -> tuple[int, bytes]:
        if shown.lower() != self._basic:
            return 401, b'{"error": "invalid_client"}'
        token = secrets.token_urlsafe(16)
        self._tokens.add(token.encode())
        made = {"access_token": token, "token_type": "Bearer", "expires_in": 3600}
        return 200, json.dumps(made).encode()

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _fact(self, op_key: str) -> dict[str, Any]:
        return self._facts.get(op_key) or _fact(op_key, "NOT_FOUND", 0)

    def _quote(self, asked: dict[str, Any]) -> dict[str, Any]:
        list_fen = asked["billFen"] or self._prices[asked["offerId"]] * asked["quantity"]
        made = {"id": f"pq{self._next()}", "listFen": list_fen, "expiresAt": LATER}
        return {"quote": made | {"termsHash": "terms", "cancelUntil": None}, "errors": []}

    def _hold(self, asked: dict[str, Any]) -> dict[str, Any]:
        op_key = asked["opKey"]
        known = self._facts.get(op_key)
        if known is None:
            known = _fact(op_key, "HELD", 0, holdRef=f"h{self._next()}", expiresAt=LATER)
            self._facts[op_key] = known
        if known["outcome"] != "HELD":
            return {"reservation": None, "errors": [_no(known["outcome"])]}
        made = {"opKey": op_key, "holdRef": known["holdRef"], "expiresAt": LATER}
        return {"reservation": made, "errors": []}

    def _confirm(self, asked: dict[str, Any]) -> dict[str, Any]:
        op_key = asked["opKey"]
        if op_key not in self._facts:
            number = self._next()
            given = {"bookingRef": f"b{number}", "artefacts": {"code": f"V{number:09d}"}}
            self._facts[op_key] = _fact(op_key, "CONFIRMED", 1, **given)
        return {"fact": self._facts[op_key], "errors": []}

    def _fence(self, asked: dict[str, Any]) -> dict[str, Any]:
        known = self._facts.get(asked["opKey"])
        if known is None or known["outcome"] == "HELD":
            self._facts[asked["opKey"]] = _fact(asked["opKey"], "FENCED", 1)
        return {"fact": self._facts[asked["opKey"]], "errors": []}

    def _cancel_quote(self, asked: dict[str, Any]) -> dict[str, Any]:
        made = {"id": f"cq{self._next()}", "refundable": True, "feeFen": 0, "expiresAt": LATER}
        return {"cancelQuote": made | {"until": None}, "errors": []}

    def _cancel(self, asked: dict[str, Any]) -> dict[str, Any]:
        made = self._facts.setdefault(asked["opKey"], _fact(asked["opKey"], "CANCELLED", 2))
        return {"fact": made, "errors": []}

    def _notice(self, asked: dict[str, Any]) -> dict[str, Any]:
        receipt = {"receiptRef": f"r{self._next()}", "receivedAt": LATER}
        return {"receipt": receipt, "errors": []}


def _fact(op_key: str, outcome: str, version: int, **more: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("bookingRef", "holdRef", "expiresAt", "reason", "artefacts"))
    return {"opKey": op_key, "outcome": outcome, "version": version} | empty | more


def _no(code: str) -> dict[str, Any]:
    return {"class": "DECLINED_FINAL", "code": code, "context": {}}


def _authorization(head: bytes) -> bytes:
    at = head.lower().find(b"\r\nauthorization:")
    return head[at + 16 :].split(b"\r\n", 1)[0].strip() if at >= 0 else b""


async def main(secret: str) -> None:
    from gateway.demo.data import catalog

    shops = Shops(secret, {row["id"]: row["cash_fen"] for row in catalog()["offers"]})
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answering(shops.answer), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - its port
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
