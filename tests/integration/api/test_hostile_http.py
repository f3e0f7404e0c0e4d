"""What no client of ours sends: bodies, addresses and events made to break something."""

import json
from datetime import UTC, datetime

from gateway.api.graph import DOCUMENT_CHARACTERS
from gateway.oauth import signatures
from gateway.oauth.scopes import Role
from tests.integration.api.conftest import WEBHOOK_SECRET
from tests.integration.api.test_bad_requests import digest

ASK = b'{"query":"{ coalition { nameZh } }","variables":{"a":%s}}'
BODIES = {
    "a batch": b'[{"query":"{ coalition { nameZh } }"}]',
    "nothing": b"",
    "null": b"null",
    "not UTF-8": b"\xff\xfe",
    "half a surrogate pair": ASK % b'"\\ud800"',
    "a number beyond all numbers": ASK % b"1e999",
    "not a number": ASK % b"NaN",
    "an integer of 6,000 digits": ASK % (b"9" * 6000),
    "NUL in a variable": ASK % b'"\\u0000"',
    "arrays in arrays": ASK % (b"[" * 9000),
    "NUL in a document": b'{"query":"{ merchant(id: \\"\\\\u0000\\") { id } }"}',
    "nested fields": b'{"query":"{ me %s"}' % (b"{ id " * 1300),
    "nested lists": b'{"query":"{ merchant(id: %s"}' % (b"[" * 1300),
    "a ring of fragments": b'{"query":"{ ...a } fragment a on Query { ...a }"}',
    "too many aliases": json.dumps(
        {"query": "{" + " ".join(f"a{n}: coalition {{ nameZh }}" for n in range(400)) + "}"}
    ).encode(),
    "fragments that double": json.dumps(
        {
            "query": "{ ...f0 } fragment f60 on Query { coalition { nameZh } }"
            + "".join(f" fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(60))
        }
    ).encode(),
}


async def test_a_hostile_body_is_malformed_or_too_expensive(gateway):
    token = await gateway.token(Role.MEMBER, member="mbr_demo_01")
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    for kind, body in BODIES.items():
        answer = await gateway.http.post(f"{gateway.base}/graphql", content=body, headers=headers)
        assert answer.status_code in (200, 400), kind
        (error,) = answer.json()["errors"]
        assert error["extensions"]["code"] in ("MALFORMED_REQUEST", "QUERY_TOO_EXPENSIVE"), kind
        assert error["extensions"]["nextStep"]


ADDRESSES = (
    "/bank/%00.csv",
    "/bank/..%2f.csv",
    "/bills/2026-11-20.csv?merchant=%00",
    "/bills/2026-11-20.csv?merchant=%E5%A5%BD",
    "/bills/2026-11-20.csv?merchant=x%0d%0ay",
    "/bills/2026-13-20.csv?merchant=M05",
    "/bills/2026-13-20.head?merchant=M05",
    "/bills/9999-12-31.head?merchant=M05",
    "/bills/2026-11-20.head?merchant=%00",
    "/bills/%00.head?merchant=M05",
    "/errors/%00",
    "/oauth/authorize?client_id=%00",
)


async def test_a_hostile_address_is_the_callers_fault(gateway):
    token = await gateway.token(Role.FINANCE, subject="usr_fin_maker")
    for address in ADDRESSES:
        answer = await gateway.http.get(
            gateway.base + address, headers={"authorization": f"Bearer {token}"}
        )
        assert 400 <= answer.status_code < 500, address


EVENTS = {
    "NUL": b'{"id":"e","kind":"booking.fulfilled","op_key":"red\\u0000:confirm:1","version":1}',
    "half a pair": b'{"id":"\\ud800"}',
    "no finite number": b'{"id":"e","version":1e999}',
    "no object": b"[1]",
    "no JSON": b"[" * 9000,
}


async def test_a_signed_event_that_cannot_be_kept_is_malformed(gateway, coalition):
    before = await digest(coalition)
    for kind, raw in EVENTS.items():
        headers = signatures.sign_event(
            raw, message_id="evt_1", at=datetime.now(UTC), secret=WEBHOOK_SECRET
        )
        answer = await gateway.http.post(f"{gateway.base}/events/M05", content=raw, headers=headers)
        assert answer.status_code == 400, kind
        assert answer.json()["errors"][0]["extensions"]["code"] == "MALFORMED_REQUEST"
    assert await digest(coalition) == before


async def test_an_event_about_anothers_redemption_is_ignored(gateway, coalition):
    bought = await coalition.redeemed("mbr_demo_02", "CW-04", ("P-LL", None))
    body = {"id": "e", "kind": "booking.cancelled", "op_key": f"{bought.id}:confirm:1"}
    raw = json.dumps(body | {"version": 9}).encode()
    headers = signatures.sign_event(
        raw, message_id="evt_1", at=datetime.now(UTC), secret=WEBHOOK_SECRET
    )
    answer = await gateway.http.post(f"{gateway.base}/events/M05", content=raw, headers=headers)
    assert answer.status_code == 204
    assert (await coalition.get(bought)).state == "COMMITTED"


REFERENCES = (
    {"__typename": "Redemption"},
    {"__typename": "Wallet", "id": "x"},
    {"__typename": "Offer", "id": {"a": 1}},
    {"__typename": "Merchant", "id": "M05", "paused": True},
    {"__typename": ["Offer"], "id": "XH-01"},
    {},
    "x",
)


async def test_a_reference_that_names_no_entity_is_malformed(gateway):
    member = await gateway.member("mbr_demo_01")
    text = "query($r: [_Any!]!) { _entities(representations: $r) { __typename } }"
    for reference in REFERENCES:
        assert (await member.ask(text, r=[reference])).codes == ["MALFORMED_REQUEST"], reference


async def test_what_is_remembered_of_documents_has_a_bound(gateway):
    graph = gateway.app.state.graphs.current
    for mark in "abcdefghijklmnopqrst":
        text = "{ coalition { nameZh } } #" + mark * 40_000
        assert (await gateway.anonymous().ask(text)).status in (200, 401)
    assert 0 < graph.documents.weight <= DOCUMENT_CHARACTERS


async def test_a_forged_cursor_is_malformed(gateway):
    member = await gateway.member("mbr_demo_01")
    for field in ("redemptions", "offers", "merchants"):
        text = f"query($after: String) {{ {field}(after: $after) {{ edges {{ cursor }} }} }}"
        for cursor in ("!!!", "AA==", "A", "x" * 999, "eA"):
            answer = await member.ask(text, after=cursor)
            assert answer.codes == ["MALFORMED_REQUEST"], (field, cursor)


PLAN = {"value": {"num": 1, "den": 1}, "targetPoints": 10, "targetFen": 10}
PLANS = (
    {"pointsPerMonth": 2**53 - 1},
    {"pointsPerMonth": 10**6},
    {"pointsPerMonth": 5, "targetFen": 2**53 - 1},
    {"billFen": 99},
    {"pointsPerMonth": 0},
    {"pointsPerMonth": 5, "months": 10**9},
)


async def test_a_plan_beyond_reason_is_refused_before_it_is_played(gateway):
    member = await gateway.member("mbr_demo_01")
    text = "query($input: SavingsInput!) { savings(input: $input) { services } }"
    for plan in PLANS:
        assert (await member.ask(text, input=PLAN | plan)).codes == ["MALFORMED_REQUEST"], plan
