"""Every field of every mutation's input, given what it must not be given, read off the schema.

An answer is a published code with a next step, never INTERNAL; a refusal changes nothing.
"""

import copy
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from graphql import (
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    build_schema,
    get_named_type,
    is_input_object_type,
)

from gateway.api import schema
from gateway.errors import published
from gateway.oauth.scopes import Role
from tests.integration.api.test_bad_requests import digest
from tests.integration.api.test_merchant_journeys import NOODLES, OFFER, POLICY, TERMS, joined
from tests.support.gateway import Client, Gateway

SCHEMA = build_schema(schema.api_sdl())
OMITTED = object()
TEXTS = ("", "a\x00b", "\x1b[2J", "汉" * 700, "' OR 1=1 --", "%_%", "\u202e", None, 7, [], {})
WHOLE = (0, -1, 2**31 - 1, -(2**31), 2**31, 1.5, "1", None)
AMOUNTS = (0, -1, 2**53, 2**63 - 1, -(2**63), 2**63, 10**30, 1.5, "1", None)
VALUES: dict[str, tuple[Any, ...]] = {
    "String": TEXTS,
    "ID": TEXTS,
    "Int": WHOLE,
    "Fen": AMOUNTS,
    "Points": AMOUNTS,
    "Boolean": (0, "true", None),
    "Date": ("0001-01-01", "9999-12-31", "2026-02-30", "2026-W47-5", 20261120, "", None),
    "DateTime": ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-11-20", 0, None),
    "JSON": (
        None, [], 1, "x", {"a": "\x00"}, {"a": 10**40}, {"kty": "EC", "crv": [], "x": 1},
        {"kty": "OKP", "crv": "Ed25519", "x": "!!", "d": "é"}, {"silver": -1}, {"": {}},
        {"coupon": 7, "tags": 5, "part_payment": "no", "max_offset_pct": 10**30},
    ),
}  # fmt: skip


def hostile(kind: Any) -> Iterator[Any]:
    """What a field of a type must not be given, or hardly ever is."""
    plain = kind.of_type if isinstance(kind, GraphQLNonNull) else kind
    yield OMITTED
    if isinstance(plain, GraphQLList):
        yield from (None, [], [None], "x", [[]])
        yield from ([value] for value in hostile(plain.of_type) if value is not OMITTED)
    elif is_input_object_type(plain):
        yield from (None, {}, [], "x")
    else:
        yield from VALUES[plain.name]


def places(kind: GraphQLInputObjectType, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, Any]]:
    """Every field of an input, into its objects."""
    for name, field in kind.fields.items():
        yield (*path, name), field.type
        plain = field.type.of_type if isinstance(field.type, GraphQLNonNull) else field.type
        inner = get_named_type(plain)
        if isinstance(inner, GraphQLInputObjectType):
            step = (name, 0) if isinstance(plain, GraphQLList) else (name,)
            yield from places(inner, path + step)


def changed(document: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    made: Any = copy.deepcopy(document)
    at = made
    for part in path[:-1]:
        if isinstance(at, dict) and at.get(part) is None:
            at[part] = {}
        at = at[part]
    if value is OMITTED:
        at.pop(path[-1], None)
    else:
        at[path[-1]] = value
    return dict(made)


KINDS = [pytest.param("sqlite", marks=pytest.mark.campaign), "postgresql"]
DECISION = {"redemption": "red_x", "outcome": "RELEASE", "note": "x", "evidence": "b"}


async def requests(gateway: Gateway) -> dict[str, tuple[Client, dict[str, Any]]]:
    """Who calls each mutation, with an input of the right shape."""
    member = await gateway.member("mbr_demo_01")
    noodles, cinema = await gateway.merchant("M17"), await gateway.merchant("M05")
    finance = await gateway.staff(Role.FINANCE, "usr_fin_maker")
    operator = await gateway.staff(Role.OPERATOR, "usr_operator")
    order = {"offer": "XH-01", "legs": [{"programme": "P-LL", "points": None}]}
    of_key = {"jwk": {"kty": "EC"}, "onboardingCode": None, "merchant": None}
    purchase = {"order": "o9", "consumed": False, "partnerMemberRef": "nobody", "cashFen": 500}
    return {
        "requestQuote": (member, order),
        "redeemOffer": (member, order),
        "holdRedemption": (member, {"quote": "quo_x"}),
        "confirmRedemption": (member, {"redemption": "red_x"}),
        "releaseRedemption": (member, {"redemption": "red_x"}),
        "requestCancellation": (member, {"redemption": "red_x"}),
        "cancelRedemption": (member, {"redemption": "red_x", "cancelQuote": "cnq_x"}),
        "donatePoints": (member, {"beneficiary": "M16", "programme": "P-LL", "points": 1}),
        "reverseDonation": (member, {"donation": "don_x"}),
        "grantConsent": (member, {"purpose": "nothing", "issuer": "M04", "redeemer": "M05"}),
        "revokeConsent": (member, {"consent": "cns_x"}),
        "registerClientKey": (noodles, of_key),
        "publishProgrammePolicy": (noodles, POLICY | {"compensationBps": -1}),
        "publishOffer": (noodles, OFFER | {"kind": "nothing"}),
        "suspendOffer": (noodles, {"offer": "XH-01", "reason": "x"}),
        "registerMember": (noodles, {"partnerMemberRef": "r", "consents": ["nothing"]}),
        "recordEarnEvent": (noodles, purchase),
        "recordReturn": (noodles, {"order": "o9"}),
        "verifyVoucher": (cinema, {"code": "none"}),
        "recordFulfilment": (cinema, {"redemption": "red_x", "finalFareFen": 1}),
        "proposeAgreement": (noodles, TERMS | {"settlementBps": 0}),
        "signAgreement": (noodles, {"agreement": "agr_x"}),
        "startConformanceRun": (noodles, {}),
        "acknowledgeSettlementLeg": (noodles, {"leg": "leg_x", "signature": "x"}),
        "unpublishSubgraph": (cinema, {}),
        "publishSubgraph": (cinema, {"sdl": "type T", "url": "https://a.example/g"}),
        "registerWebhook": (noodles, {"url": "not a url", "types": ["nothing.*"]}),
        "resendEvents": (noodles, {"events": ["evt_x"]}),
        "closeSettlementWindow": (finance, {"window": "W"}),
        "proposeSettlement": (finance, {"window": "W"}),
        "approveSettlement": (finance, {"settlement": "set_x", "netHash": "x"}),
        "startReconciliationRun": (finance, {"day": "2030-01-01"}),
        "assignBreak": (finance, {"breakId": "brk_x"}),
        "proposeBreakResolution": (finance, {"breakId": "b", "action": "ACCEPT_OURS", "note": ""}),
        "approveBreakResolution": (finance, {"resolution": "res_x"}),
        "signOffReconciliationRun": (finance, {"run": "run_x"}),
        "registerMerchant": (operator, NOODLES),
        "fencePartnerOperation": (operator, {"redemption": "red_x"}),
        "proposeReviewResolution": (operator, DECISION),
        "approveReviewResolution": (operator, {"resolution": "rrs_x"}),
        "pausePartner": (operator, {"merchant": "M99", "paused": True}),
        "proposeBudget": (operator, {"issuer": "M99", "year": 2026, "budgetFen": 1}),
        "approveBudget": (operator, {"budget": "bud_x"}),
        "recordLicence": (
            operator,
            {"kind": "k", "number": "n", "scope": "", "validFrom": "2026-01-01"}
            | {"validUntil": "2027-01-01"},
        ),
        "setSandboxClock": (operator, {"at": "1999-01-01T00:00:00Z"}),
    }


async def send(client: Client, name: str, document: dict[str, Any]) -> Any:
    kind = SCHEMA.mutation_type.fields[name].args["input"].type.of_type
    wanted = "errors { code message field nextStep }"
    text = f"mutation($input: {kind.name}!) {{ {name}(input: $input) {{ {wanted} }} }}"
    answer = await client.gateway.http.post(
        f"{client.gateway.base}/graphql",
        content=json.dumps({"query": text, "variables": {"input": document}}),
        headers={"content-type": "application/json", "authorization": f"Bearer {client.token}"},
    )
    assert answer.status_code == 200
    return answer.json()


def judge(name: str, answer: Any) -> str | None:
    """What is wrong with an answer; None: nothing."""
    known = {leaf.code for leaf in published()} | {"MALFORMED_REQUEST"}
    tops = [error["extensions"] for error in answer.get("errors", ())]
    refusals = answer["data"][name]["errors"] if not tops else []
    for code, step in (
        *((error["code"], error.get("nextStep")) for error in tops),
        *((error["code"], error["nextStep"]) for error in refusals),
    ):
        if code not in known or code == "INTERNAL" or not step:
            return str(code)
    for error in refusals:
        if error["code"] in ("INVALID_INPUT", "INVALID_AMOUNT") and not error["field"]:
            return f"{error['code']} names no field"
        if "{" in error["message"]:
            return f"{error['code']} leaves a name open"
    return None


@pytest.mark.parametrize("seeded_url", KINDS, indirect=True)
async def test_no_hostile_input_of_any_mutation_is_an_error_of_ours(gateway, coalition):
    await joined(gateway)
    asked = await requests(gateway)
    assert set(asked) == set(SCHEMA.mutation_type.fields)
    before, wrong, number = await digest(coalition), [], itertools.count()
    for name, (client, document) in asked.items():
        kind = SCHEMA.mutation_type.fields[name].args["input"].type.of_type
        accepted = False
        for path, of in places(kind):
            for value in hostile(of):
                given = changed(document | {"idempotencyKey": f"k{next(number)}"}, path, value)
                answer = await send(client, name, given)
                if fault := judge(name, answer):
                    wrong.append(f"{name} {path} {value!r:.40}: {fault}")
                accepted |= "errors" not in answer and not answer["data"][name]["errors"]
        after = await digest(coalition)
        if after != before and not accepted:
            wrong.append(f"{name} was refused and changed something")
        before = after
    assert wrong == []
