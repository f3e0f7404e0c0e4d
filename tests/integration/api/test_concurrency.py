"""Many requests at once: one effect a key, and no more points than there are."""

import asyncio

LEGS = [{"programme": "P-LL"}]


async def test_a_key_sent_many_times_at_once_acts_once(gateway, coalition):
    member = await gateway.member("mbr_demo_01")
    quote = (await member.did("requestQuote", "quote { id }", offer="XH-01", legs=LEGS))["quote"]
    asked = {"quote": quote["id"], "idempotencyKey": "once"}
    answers = await asyncio.gather(
        *(member.do("holdRedemption", "redemption { id }", **asked) for _ in range(12))
    )
    made = {answer["redemption"]["id"] for answer in answers if answer["redemption"]}
    assert len(made) == 1
    assert [answer["replayed"] for answer in answers].count(False) == 1
    holds = [key for verb, key in coalition.partners["M05"].calls if verb == "hold"]
    assert len(holds) == 1


async def test_more_orders_than_points_are_refused_not_overdrawn(gateway):
    member = await gateway.member("mbr_demo_01")  # 20,000 points: four tickets
    answers = await asyncio.gather(
        *(
            member.do("redeemOffer", "redemption { state }", offer="XH-01", legs=LEGS)
            for _ in range(7)
        )
    )
    states = [answer["redemption"]["state"] for answer in answers if answer["redemption"]]
    codes = [error["code"] for answer in answers for error in answer["errors"]]
    assert states == ["COMMITTED"] * 4
    assert codes == ["INSUFFICIENT_POINTS"] * 3
    (wallet,) = (await member.data("{ me { wallets { available held } } }"))["me"]["wallets"]
    assert wallet == {"available": 2000, "held": 0}
