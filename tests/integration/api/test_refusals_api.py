"""Refusals over HTTP: the published code with its numbers and the next step; nothing changes."""

import pytest

LEGS = [{"programme": "P-LL"}]


async def wallets(member) -> dict[str, tuple[int, int]]:
    found = await member.data("{ me { wallets { available held programme { id } } } }")
    return {
        row["programme"]["id"]: (row["available"], row["held"]) for row in found["me"]["wallets"]
    }


@pytest.mark.parametrize(
    ("member", "order", "code", "context"),
    [
        (
            "mbr_demo_04",
            {"offer": "XH-02", "quantity": 9, "legs": LEGS},
            "INSUFFICIENT_POINTS",
            {"programme": "P-LL"},
        ),
        (
            "mbr_demo_08",
            {"offer": "MX-01", "legs": LEGS},
            "NO_AGREEMENT",
            {"issuer": "M04", "redeemer": "M08", "ended_on": "2026-11-01"},
        ),
        (
            "mbr_zhaodama",
            {"offer": "HR-08", "legs": [{"programme": "P-HR"}]},
            "OFFER_NOT_OPEN",
            {"next_on": "2027-01-15", "until_on": "2027-02-21"},
        ),
        (
            "mbr_chenjing",
            {"offer": "XH-01", "legs": [{"programme": "P-YQ"}]},
            "CONSENT_REQUIRED",
            {"purpose": "partner_pair", "programme": "P-YQ", "redeemer": "M05"},
        ),
        (
            "mbr_demo_16",
            {"offer": "KX-02", "legs": [{"programme": "P-HM", "points": 1005}], "cashFen": 1995},
            "INVALID_INPUT",
            {"field": "legs.0.points", "rule": "step of 10"},
        ),
        (
            "mbr_demo_01",
            {"offer": "XH-01", "legs": [{"programme": "P-LL", "points": -10}]},
            "INVALID_AMOUNT",
            {"value": -10},
        ),
        (
            "mbr_demo_01",
            {"offer": "no-such", "legs": LEGS},
            "NOT_FOUND",
            {"id": "no-such"},
        ),
    ],
)
async def test_a_quote_is_refused_with_its_code_and_numbers(gateway, member, order, code, context):
    client = await gateway.member(member)
    before = await wallets(client)
    error = await client.refused("requestQuote", **order)
    assert error["code"] == code
    assert {name: error["context"][name] for name in context} == context
    assert error["message"]
    assert error["nextStep"]
    assert "{" not in error["message"] + error["nextStep"]
    assert await wallets(client) == before


async def test_a_message_names_parties_in_the_callers_language(gateway):
    member = await gateway.member("mbr_demo_08")
    order = {"offer": "MX-01", "legs": LEGS}
    zh = await member.refused("requestQuote", **order)
    member.language = "en-GB,en;q=0.9,zh;q=0.5"
    en = await member.refused("requestQuote", **order)
    assert zh["message"] == "邻里便利与墨香书店没有有效的兑换协议"
    assert en["message"].startswith("no valid agreement between ")
    assert "M04" not in en["message"]


async def test_a_programme_has_an_english_name_of_its_issuers(gateway):
    member = await gateway.member("mbr_demo_01")
    member.language = "en"
    order = {"offer": "XH-01", "legs": [{"programme": "P-YQ"}]}
    told = await member.refused("requestQuote", **order)
    assert told["code"] == "CONSENT_REQUIRED"
    assert told["message"].isascii(), told["message"]
    assert " points" in told["message"]


async def test_an_expired_quote_holds_nothing(gateway, coalition):
    member = await gateway.member("mbr_demo_01")
    quote = (await member.did("requestQuote", "quote { id }", offer="XH-01", legs=LEGS))["quote"]
    coalition.clock.forward(hours=2)
    error = await member.refused("holdRedemption", quote=quote["id"])
    assert error["code"] == "QUOTE_EXPIRED"
    assert (await wallets(member))["P-LL"] == (20000, 0)


async def test_a_partner_that_is_not_reached_is_a_payload_error_and_changes_nothing(
    gateway, coalition
):
    member = await gateway.member("mbr_demo_01")
    coalition.partners["M05"].script["hold"] = ["not_sent"] * 9
    quote = (await member.did("requestQuote", "quote { id }", offer="XH-01", legs=LEGS))["quote"]
    payload = await member.do("holdRedemption", "redemption { state }", quote=quote["id"])
    assert payload["redemption"] is None
    assert [error["code"] for error in payload["errors"]] == ["PARTNER_UNAVAILABLE"]
    assert (await wallets(member))["P-LL"] == (20000, 0)


async def test_in_doubt_is_a_state_and_no_error(gateway, coalition):
    member = await gateway.member("mbr_demo_01")
    coalition.partners["M05"].script["confirm"] = ["lost_after"]
    payload = await member.did(
        "redeemOffer", "redemption { id state since nextCheckAt }", offer="XH-01", legs=LEGS
    )
    assert payload["redemption"]["state"] == "IN_DOUBT"
    assert payload["redemption"]["since"]
    assert payload["redemption"]["nextCheckAt"]
    assert (await wallets(member))["P-LL"] == (15500, 4500)
    await coalition.work(seconds=5)
    found = await member.data(
        "query($id: ID!) { redemption(id: $id) { state voucher { code } } }",
        id=payload["redemption"]["id"],
    )
    assert found["redemption"]["state"] == "COMMITTED"
    assert found["redemption"]["voucher"]["code"]


async def test_the_same_key_with_another_body_is_a_conflict(gateway):
    member = await gateway.member("mbr_demo_01")
    order = {"offer": "XH-01", "legs": LEGS, "idempotencyKey": "mine"}
    first = await member.did("requestQuote", "quote { id }", **order)
    again = await member.did("requestQuote", "quote { id }", **order)
    assert again == first | {"replayed": True}
    error = await member.refused("requestQuote", **order | {"quantity": 2})
    assert error["code"] == "IDEMPOTENCY_CONFLICT"
    assert error["context"]["stored_hash"] != error["context"]["given_hash"]
    other = await gateway.member("mbr_demo_02")
    mine = await other.did("requestQuote", "quote { id }", **order)
    assert mine["quote"] != first["quote"]


async def test_a_refusal_leaves_no_key_behind(gateway):
    member = await gateway.member("mbr_demo_08")
    order = {"offer": "MX-01", "legs": LEGS, "idempotencyKey": "mine"}
    assert (await member.refused("requestQuote", **order))["code"] == "NO_AGREEMENT"
    await member.did("requestQuote", "quote { id }", **order | {"offer": "KX-01"})
