"""What a member does over HTTP: look, quote, hold, confirm, cancel, give."""

import pytest

from gateway.oauth.scopes import Role

REDEMPTION = (
    "redemption { id state savedFen legs { points faceFen settlementFen feeFen } voucher { code } }"
)


async def test_a_ticket_is_bought_with_convenience_points(gateway):
    member = await gateway.member("mbr_demo_01")
    quote = (
        await member.did(
            "requestQuote",
            "quote { id listFen cashFen legs { points faceFen own programme { id } } }",
            offer="XH-01",
            legs=[{"programme": "P-LL"}],
        )
    )["quote"]
    assert quote["listFen"] == 4500
    assert quote["legs"] == [
        {"points": 4500, "faceFen": 4500, "own": False, "programme": {"id": "P-LL"}}
    ]

    held = (await member.did("holdRedemption", REDEMPTION, quote=quote["id"]))["redemption"]
    assert held["state"] == "HELD"
    wallets = "{ me { wallets { available held programme { id nameZh } } } }"
    (wallet,) = (await member.data(wallets))["me"]["wallets"]
    assert (wallet["available"], wallet["held"]) == (15500, 4500)

    done = await member.did("confirmRedemption", REDEMPTION, redemption=held["id"])
    assert done["redemption"]["state"] == "COMMITTED"
    assert done["redemption"]["savedFen"] == 4500
    assert done["redemption"]["voucher"]["code"]
    assert done["redemption"]["legs"] == [
        {"points": 4500, "faceFen": 4500, "settlementFen": 4050, "feeFen": 20}
    ]


ORDER = {"offer": "XH-01", "legs": [{"programme": "P-LL"}]}


async def test_two_programmes_and_cash_pay_one_order(gateway):
    member = await gateway.member("mbr_demo_07")
    quote = await member.did(
        "requestQuote",
        "quote { listFen cashFen pricing legs { points faceFen own programme { id } } }",
        offer="KX-03",
        slot="2026-11-22T10:00:00+08:00",
        legs=[{"programme": "P-LL", "points": 8000}, {"programme": "P-KX"}],
    )
    assert quote["quote"] == {
        "listFen": 12000,
        "cashFen": 0,
        "pricing": "estimate",
        "legs": [
            {"points": 8000, "faceFen": 8000, "own": False, "programme": {"id": "P-LL"}},
            {"points": 4000, "faceFen": 4000, "own": True, "programme": {"id": "P-KX"}},
        ],
    }


async def test_confirming_twice_with_a_key_is_confirming_once(gateway, coalition):
    member = await gateway.member("mbr_demo_01")
    quote = (await member.did("requestQuote", "quote { id }", **ORDER))["quote"]
    asked = {"quote": quote["id"], "idempotencyKey": "h"}
    held = await member.did("holdRedemption", REDEMPTION, **asked)
    assert await member.did("holdRedemption", REDEMPTION, **asked) == held | {"replayed": True}
    asked = {"redemption": held["redemption"]["id"], "idempotencyKey": "c"}
    done = await member.did("confirmRedemption", REDEMPTION, **asked)
    again = await member.did("confirmRedemption", REDEMPTION, **asked)
    assert again == done | {"replayed": True}
    confirms = [key for verb, key in coalition.partners["M05"].calls if verb == "confirm"]
    assert len(confirms) == 1


async def test_a_held_ticket_is_given_up(gateway):
    member = await gateway.member("mbr_demo_01")
    quote = (await member.did("requestQuote", "quote { id }", **ORDER))["quote"]
    held = (await member.did("holdRedemption", "redemption { id }", quote=quote["id"]))[
        "redemption"
    ]
    released = await member.did(
        "releaseRedemption", "redemption { state savedFen }", redemption=held["id"]
    )
    assert released["redemption"]["savedFen"] == 0
    (wallet,) = (await member.data("{ me { wallets { available held } } }"))["me"]["wallets"]
    assert wallet == {"available": 20000, "held": 0}
    late = await member.refused("confirmRedemption", redemption=held["id"])
    assert late["code"] == "HOLD_ALREADY_RESOLVED"


async def test_a_cancellation_says_first_what_comes_back(gateway):
    member = await gateway.member("mbr_demo_01")
    bought = (await member.did("redeemOffer", REDEMPTION, **ORDER))["redemption"]
    offered = await member.did(
        "requestCancellation",
        "cancelQuote { id refundable feeFen }",
        redemption=bought["id"],
    )
    assert offered["cancelQuote"]["refundable"] is True
    asked = {
        "redemption": bought["id"],
        "cancelQuote": offered["cancelQuote"]["id"],
        "idempotencyKey": "x",
    }
    done = await member.did("cancelRedemption", "redemption { state savedFen fault }", **asked)
    assert done["redemption"] == {"state": "CANCELLED", "savedFen": 0, "fault": "MEMBER"}
    again = await member.did("cancelRedemption", "redemption { state savedFen fault }", **asked)
    assert again == done | {"replayed": True}
    (wallet,) = (await member.data("{ me { wallets { available lots { left } } } }"))["me"][
        "wallets"
    ]
    assert wallet == {"available": 20000, "lots": [{"left": 20000}]}


async def test_a_gift_is_matched_and_can_be_taken_back(gateway):
    member = await gateway.member("mbr_demo_20")
    wanted = "donation { id points faceFen matchedFen state beneficiary { id } }"
    asked = {
        "beneficiary": "M16",
        "programme": "P-HM",
        "points": 1000,
        "idempotencyKey": "gift",
    }
    given = await member.did("donatePoints", wanted, **asked)
    assert (given["donation"]["faceFen"], given["donation"]["matchedFen"]) == (1000, 1000)
    assert await member.did("donatePoints", wanted, **asked) == given | {"replayed": True}
    other = await member.refused("donatePoints", **asked | {"points": 2000})
    assert other["code"] == "IDEMPOTENCY_CONFLICT"
    donation = given["donation"]["id"]
    found = await member.data("query($id: ID!) { donation(id: $id) { state } }", id=donation)
    assert found["donation"]["state"] == "DONE"
    stranger = await gateway.member("mbr_demo_01")
    hidden = await stranger.data("query($id: ID!) { donation(id: $id) { state } }", id=donation)
    assert hidden["donation"] is None
    assert (await stranger.refused("reverseDonation", donation=donation))["code"] == "NOT_FOUND"
    back = await member.did("reverseDonation", "donation { state }", donation=donation)
    assert back["donation"]["state"] == "REVERSED"


async def test_a_consent_is_given_and_taken_back(gateway):
    member = await gateway.member("mbr_chenjing")
    order = {"offer": "XH-01", "legs": [{"programme": "P-YQ"}]}
    asked = {"purpose": "partner_pair", "issuer": "M03", "redeemer": "M05", "idempotencyKey": "y"}
    given = await member.did("grantConsent", "consent { id revokedAt }", **asked)
    assert await member.did("grantConsent", "consent { id revokedAt }", **asked) == given | {
        "replayed": True
    }
    quoted = await member.did("requestQuote", "quote { legs { points } }", **order)
    assert quoted["quote"]["legs"] == [{"points": 2700}]
    revoked = await member.did(
        "revokeConsent", "consent { revokedAt }", consent=given["consent"]["id"]
    )
    assert revoked["consent"]["revokedAt"]
    assert (await member.refused("requestQuote", **order))["code"] == "CONSENT_REQUIRED"
    stranger = await gateway.member("mbr_demo_01")
    foreign = await stranger.refused("revokeConsent", consent=given["consent"]["id"])
    assert foreign["code"] == "NOT_FOUND"


async def test_what_points_have_saved_is_added_up_and_opens(gateway):
    member = await gateway.member("mbr_demo_01")
    bought = [
        (await member.did("redeemOffer", "redemption { id }", **ORDER))["redemption"]["id"]
        for _ in range(2)
    ]
    found = await member.data(
        "{ me { saved { totalFen lines { merchant year fen redemptions } } }"
        "  redemptions(first: 1) { edges { node { id } } pageInfo { hasNextPage endCursor } } }"
    )
    (line,) = found["me"]["saved"]["lines"]
    assert (line["merchant"], line["year"], line["fen"]) == ("M05", 2026, 9000)
    assert found["me"]["saved"]["totalFen"] == 9000
    assert sorted(line["redemptions"]) == sorted(bought)
    first = found["redemptions"]
    rest = await member.data(
        "query($after: String) { redemptions(after: $after) { edges { node { id } } } }",
        after=first["pageInfo"]["endCursor"],
    )
    shown = [edge["node"]["id"] for edge in first["edges"] + rest["redemptions"]["edges"]]
    assert sorted(shown) == sorted(bought)


async def test_the_savings_calculator_gives_two_figures(gateway):
    member = await gateway.member("mbr_wanglei")
    found = await member.data(
        "{ savings(input: {value: {num: 10, den: 1}, targetPoints: 5000, targetFen: 50000,"
        " months: 12, pointsPerMonth: 1000})"
        " { valueFen savedFen pointsLeft services monthsToTarget fenPerPoint { num den } } }"
    )
    assert found["savings"] == {
        "valueFen": 120000,
        "savedFen": 100000,
        "pointsLeft": 2000,
        "services": 2,
        "monthsToTarget": 5,
        "fenPerPoint": {"num": 10, "den": 1},
    }


ENTITIES = """
query($asked: [_Any!]!) { _entities(representations: $asked) {
  ... on Redemption { id state } ... on Offer { id nameZh } ... on Merchant { id nameZh } } }
"""


async def test_an_entity_is_asked_for_permission_again(gateway):
    member, stranger = await gateway.member("mbr_demo_01"), await gateway.member("mbr_demo_02")
    bought = (await member.did("redeemOffer", "redemption { id }", **ORDER))["redemption"]
    asked = [
        {"__typename": "Redemption", "id": bought["id"]},
        {"__typename": "Redemption", "id": "red_unknown"},
        {"__typename": "Offer", "id": "XH-01"},
        {"__typename": "Offer", "id": "nothing"},
        {"__typename": "Merchant", "id": "M05"},
    ]
    mine = (await member.data(ENTITIES, asked=asked))["_entities"]
    assert mine[0] == {"id": bought["id"], "state": "COMMITTED"}
    assert [row is None for row in mine] == [False, True, False, True, False]
    theirs = (await stranger.data(ENTITIES, asked=asked))["_entities"]
    assert [row is None for row in theirs] == [True, True, False, True, False]
    cinema = await gateway.merchant("M05")
    assert (await cinema.data(ENTITIES, asked=asked[:1]))["_entities"][0]["id"] == bought["id"]
    other = await gateway.merchant("M08")
    assert (await other.data(ENTITIES, asked=asked[:1]))["_entities"] == [None]


async def test_another_members_redemption_quote_and_wallet_do_not_exist(gateway):
    member, stranger = await gateway.member("mbr_demo_01"), await gateway.member("mbr_demo_02")
    quote = (await member.did("requestQuote", "quote { id }", **ORDER))["quote"]["id"]
    bought = (await member.did("redeemOffer", "redemption { id }", **ORDER))["redemption"]["id"]
    text = "query($q: ID!, $r: ID!) { quote(id: $q) { id } redemption(id: $r) { id } }"
    nothing = {"quote": None, "redemption": None}
    assert await stranger.data(text, q=quote, r=bought) == nothing
    assert await stranger.data(text, q="quo_unknown", r="red_unknown") == nothing
    for mutation, asked in (
        ("holdRedemption", {"quote": quote}),
        ("confirmRedemption", {"redemption": bought}),
        ("releaseRedemption", {"redemption": bought}),
        ("requestCancellation", {"redemption": bought}),
        ("cancelRedemption", {"redemption": bought, "cancelQuote": "cnq_x"}),
    ):
        refused = await stranger.refused(mutation, **asked)
        assert refused["code"] == "NOT_FOUND", mutation


@pytest.mark.parametrize("role", [Role.FINANCE, Role.OPERATOR])
async def test_staff_do_not_see_a_voucher_code(gateway, role):
    member = await gateway.member("mbr_demo_01")
    bought = (await member.did("redeemOffer", "redemption { id }", **ORDER))["redemption"]["id"]
    staff = await gateway.staff(role, f"usr_{role}")
    found = await staff.data(
        "query($asked: [_Any!]!) { _entities(representations: $asked) {"
        " ... on Redemption { state voucher { code } } } }",
        asked=[{"__typename": "Redemption", "id": bought}],
    )
    assert found["_entities"] == [{"state": "COMMITTED", "voucher": None}]
