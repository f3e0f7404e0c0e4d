"""A merchant joins and works through GraphQL alone; its data is its own."""

from gateway.oauth import jose, signatures
from gateway.oauth.scopes import Role
from tests.support.gateway import Gateway

NOODLES = {
    "id": "M17",
    "slug": "zhiwei",
    "nameZh": "知味面馆",
    "cities": ["上海"],
    "market": "T1-2",
    "roles": ["issuer", "redeemer"],
    "cover": {"collateralFen": 100000, "netDebitCapFen": 100000},
    "settlementAccount": {"bankCode": "000000000000", "number": "DEMO-M17-0001"},
}
POLICY = {
    "programme": "P-ZW",
    "nameZh": "知味积分",
    "unitZh": "面分",
    "value": {"num": 1, "den": 1},
    "earn": {"points": 1, "perFen": 100},
    "disclosure": {
        "accrualZh": "每消费1元积1分",
        "validityZh": "终身有效",
        "limitsZh": "不可转让、不可兑现",
    },
}
OFFER = {
    "offer": "ZW-01",
    "nameZh": "牛肉面",
    "kind": "voucher",
    "category": "餐饮",
    "cashFen": 2800,
    "ownPoints": 2800,
}
TERMS = {
    "issuer": "M04",
    "redeemer": "M17",
    "settlementBps": 9000,
    "feeBps": 50,
    "monthlyCapFen": 1_000_000,
    "validFrom": "2026-11-20",
    "validUntil": "2028-01-01",
}


async def joined(gateway: Gateway) -> None:
    """M17 is registered, has a key, a programme, a budget, an offer and an agreement with M04."""
    operator = await gateway.staff(Role.OPERATOR, "usr_operator")
    checker = await gateway.staff(Role.OPERATOR, "usr_operator_checker")
    made = await operator.did("registerMerchant", "merchant { id } onboardingCode", **NOODLES)
    key = jose.new_key().as_dict(private=False)
    registered = await gateway.anonymous().did(
        "registerClientKey", "key { client kid }", onboardingCode=made["onboardingCode"], jwk=key
    )
    assert registered["key"]["client"] == "merchant-M17"
    noodles = await gateway.merchant("M17")
    await noodles.did("publishProgrammePolicy", "programme { id }", **POLICY)
    budget = await operator.did(
        "proposeBudget", "budget { id leftFen }", issuer="M17", year=2026, budgetFen=100000
    )
    await checker.did("approveBudget", "budget { leftFen }", budget=budget["budget"]["id"])
    await noodles.did("publishOffer", "offer { id }", **OFFER)
    agreement = await noodles.did("proposeAgreement", "agreement { id signedBy }", **TERMS)
    lawson = await gateway.merchant("M04")
    signed = await lawson.did(
        "signAgreement", "agreement { signedBy }", agreement=agreement["agreement"]["id"]
    )
    assert sorted(signed["agreement"]["signedBy"]) == ["M04", "M17"]


async def test_a_new_merchant_sells_its_first_voucher(gateway):
    await joined(gateway)
    noodles = await gateway.merchant("M17")
    run = await noodles.did("startConformanceRun", "run { failed checks { id outcome detail } }")
    assert run["run"]["failed"] == 0, run

    registered = await noodles.did(
        "registerMember", "member { id }", partnerMemberRef="zw-0001", consents=["service"]
    )
    earned = await noodles.did(
        "recordEarnEvent",
        "earning { points state } available budgetLeftFen",
        member=registered["member"]["id"],
        order="ord_ZW_1",
        cashFen=5680,
        consumed=True,
    )
    assert earned["earning"]["points"] == 56
    assert earned["available"] == 56
    assert earned["budgetLeftFen"] == 99944

    member = await gateway.member("mbr_demo_01")
    order = {"offer": "ZW-01", "legs": [{"programme": "P-LL"}]}
    missing = await member.refused("redeemOffer", **order)
    assert missing["code"] == "CONSENT_REQUIRED"
    await member.did(
        "grantConsent", "consent { id }", purpose="partner_pair", issuer="M04", redeemer="M17"
    )
    bought = await member.did("redeemOffer", "redemption { id state voucher { code } }", **order)
    assert bought["redemption"]["state"] == "COMMITTED"

    code = bought["redemption"]["voucher"]["code"]
    used = await noodles.did("verifyVoucher", "redemption { state }", code=code)
    assert used["redemption"]["state"] == "FULFILLED"
    again = await noodles.refused("verifyVoucher", code=code)
    assert again["code"] == "ALREADY_USED"

    finance = await gateway.staff(Role.FINANCE, "usr_fin_maker")
    rows = await finance.data(
        "query($id: ID!) { obligations(filter: {cause: $id}) {"
        " edges { node { type payer payee amountFen state window } } } }",
        id=bought["redemption"]["id"],
    )
    shown = {
        (row["node"]["type"], row["node"]["payer"], row["node"]["payee"], row["node"]["amountFen"])
        for row in rows["obligations"]["edges"]
    }
    assert shown == {("REDEMPTION", "M04", "M17", 2520), ("FEE", "M04", "HUB_FEE", 13)}
    bill = await noodles.data('{ bills(date: "2026-11-20") { count sumFen lines { type } } }')
    assert bill["bills"] == {"count": 1, "sumFen": 2520, "lines": [{"type": "REDEMPTION"}]}


async def test_an_onboarding_code_is_used_once_and_its_replay_is_told(gateway):
    operator = await gateway.staff(Role.OPERATOR, "usr_operator")
    made = await operator.did("registerMerchant", "onboardingCode", **NOODLES)
    jwk = jose.new_key().as_dict(private=False)
    asked = {"onboardingCode": made["onboardingCode"], "jwk": jwk, "idempotencyKey": "k"}
    first = await gateway.anonymous().did("registerClientKey", "key { kid }", **asked)
    again = await gateway.anonymous().did("registerClientKey", "key { kid }", **asked)
    assert again == first | {"replayed": True}
    other = asked | {"jwk": jose.new_key().as_dict(private=False), "idempotencyKey": "other"}
    used = await gateway.anonymous().refused("registerClientKey", **other)
    assert used["code"] == "ONBOARDING_CODE_INVALID"
    unknown = await gateway.anonymous().ask(
        'mutation { registerClientKey(input: {jwk: {}, idempotencyKey: "k"}) { replayed } }'
    )
    assert unknown.codes == ["UNAUTHENTICATED"]


async def test_what_is_another_merchants_does_not_exist(gateway):
    mine, other = await gateway.merchant("M05"), await gateway.merchant("M08")
    member = await gateway.member("mbr_demo_01")
    bought = await member.did(
        "redeemOffer",
        "redemption { id voucher { code } }",
        offer="XH-01",
        legs=[{"programme": "P-LL"}],
    )
    theirs = bought["redemption"]
    foreign = await other.refused("verifyVoucher", code=theirs["voucher"]["code"])
    unknown = await other.refused("verifyVoucher", code="00000000")
    assert foreign["code"] == unknown["code"] == "NOT_FOUND"
    done = await other.refused("recordFulfilment", redemption=theirs["id"])
    assert done["code"] == "NOT_FOUND"
    offer = await other.refused("suspendOffer", offer="XH-01", reason="competition")
    assert offer["code"] == "NOT_FOUND"
    stolen = await other.refused(
        "publishOffer",
        offer="XH-01",
        nameZh="假票",
        kind="voucher",
        category="电影",
        cashFen=1,
        ownPoints=1,
    )
    assert stolen["code"] == "NOT_FOUND"
    query = (
        "query($id: ID!) { obligations(filter: {cause: $id}) { edges { node { id } } }"
        ' settlementLegs(filter: {merchant: "M05"}) { edges { node { id } } }'
        ' agreements(merchant: "M05") { edges { node { id } } } }'
    )
    empty = {"edges": []}
    assert await other.data(query, id=theirs["id"]) == {
        "obligations": empty,
        "settlementLegs": empty,
        "agreements": empty,
    }
    seen = await mine.data(query, id=theirs["id"])
    assert len(seen["obligations"]["edges"]) == 1  # The fee is between M04 and the hub.


async def test_a_merchant_acts_on_related_members_only(gateway):
    merchant = await gateway.merchant("M08")
    purchase = {"order": "o1", "cashFen": 100, "consumed": True}
    foreign = await merchant.refused("recordEarnEvent", member="mbr_wanglei", **purchase)
    unknown = await merchant.refused("recordEarnEvent", member="mbr_nobody", **purchase)
    assert foreign["code"] == unknown["code"] == "NOT_FOUND"
    assert foreign["message"].replace("mbr_wanglei", "mbr_nobody") == unknown["message"]


async def test_a_leg_is_acknowledged_by_a_signature_over_its_notice(gateway, coalition):
    private = jose.new_key()
    operator = await gateway.staff(Role.OPERATOR, "usr_operator")
    await operator.did(
        "registerClientKey", "key { kid }", merchant="M05", jwk=private.as_dict(private=False)
    )
    member, cinema = await gateway.member("mbr_demo_01"), await gateway.merchant("M05")
    bought = await member.did(
        "redeemOffer", "redemption { id }", offer="XH-01", legs=[{"programme": "P-LL"}]
    )
    await cinema.did(
        "recordFulfilment", "redemption { state }", redemption=bought["redemption"]["id"]
    )
    await settle(gateway, coalition)
    legs = (
        await cinema.data(
            "{ settlementLegs { edges { node { id payer payee amountFen state toSign } } } }"
        )
    )["settlementLegs"]["edges"]
    (leg,) = [edge["node"] for edge in legs]
    assert (leg["payer"], leg["payee"], leg["amountFen"]) == ("M04", "M05", 4050)

    wrong = signatures.sign(b"something else", private.as_dict(private=True))
    refused = await cinema.refused("acknowledgeSettlementLeg", leg=leg["id"], signature=wrong)
    assert refused["code"] == "INVALID_INPUT"
    right = signatures.sign(leg["toSign"].encode(), private.as_dict(private=True))
    stranger = await (await gateway.merchant("M08")).refused(
        "acknowledgeSettlementLeg", leg=leg["id"], signature=right
    )
    assert stranger["code"] == "NOT_FOUND"
    done = await cinema.did(
        "acknowledgeSettlementLeg",
        "leg { state sides { role merchant acknowledgedAt } }",
        leg=leg["id"],
        signature=right,
    )
    assert done["leg"]["state"] == "BOOKED"


async def settle(gateway: Gateway, coalition) -> str:
    """Close the window and settle it, by two people; the settlement's id."""
    coalition.clock.forward(days=2)
    maker = await gateway.staff(Role.FINANCE, "usr_fin_maker")
    checker = await gateway.staff(Role.FINANCE, "usr_fin_checker")
    closed = await maker.did("closeSettlementWindow", "window { id state netHash }")
    assert closed["window"]["state"] == "PUBLISHED"
    proposed = await maker.did(
        "proposeSettlement", "settlement { id netHash totalFen }", window=closed["window"]["id"]
    )
    asked = {
        "settlement": proposed["settlement"]["id"],
        "netHash": proposed["settlement"]["netHash"],
    }
    own = await maker.refused("approveSettlement", **asked)
    assert own["code"] == "FOUR_EYES_REQUIRED"
    poor = await gateway.staff(Role.FINANCE, "usr_fin_junior", limit_fen=1)
    assert (await poor.refused("approveSettlement", **asked))["code"] == "FOUR_EYES_REQUIRED"
    stale = await checker.refused("approveSettlement", **asked | {"netHash": "0" * 64})
    assert stale["code"] == "STALE_NET_HASH"
    approved = await checker.did("approveSettlement", "settlement { state bankCsvUrl }", **asked)
    assert approved["settlement"]["state"] == "INSTRUCTED"
    return proposed["settlement"]["id"]


async def test_terms_proposed_meanwhile_do_not_slip_under_a_signature(gateway):
    await joined(gateway)
    noodles, lawson = await gateway.merchant("M17"), await gateway.merchant("M04")
    made = []
    for cap in (2_000, 900_000_000):
        terms = TERMS | {"monthlyCapFen": cap}
        proposed = await noodles.did("proposeAgreement", "agreement { id version }", **terms)
        made.append(proposed["agreement"])
    blind = await lawson.refused("signAgreement", agreement=made[0]["id"])
    assert (blind["code"], blind["field"]) == ("INVALID_INPUT", ["version"])
    signed = await lawson.did(
        "signAgreement",
        "agreement { version monthlyCapFen signedAt }",
        agreement=made[0]["id"],
        version=made[0]["version"],
    )
    assert signed["agreement"]["monthlyCapFen"] == 2_000
    assert signed["agreement"]["signedAt"]
