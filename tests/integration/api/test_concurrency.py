"""Many requests at once: one effect a key, and no more points than there are."""

import asyncio

from gateway.audit import service as audit

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


async def test_a_quote_held_under_many_keys_at_once_is_held_once(gateway, coalition):
    member = await gateway.member("mbr_demo_01")
    quote = (await member.did("requestQuote", "quote { id }", offer="XH-01", legs=LEGS))["quote"]
    answers = await asyncio.gather(
        *(member.do("holdRedemption", "redemption { id }", quote=quote["id"]) for _ in range(16))
    )
    assert {answer["redemption"]["id"] for answer in answers if answer["redemption"]}
    assert len({answer["redemption"]["id"] for answer in answers}) == 1
    holds = [key for verb, key in coalition.partners["M05"].calls if verb == "hold"]
    assert len(holds) == 1


async def test_a_voucher_is_taken_by_one_till(gateway):
    member, cinema = await gateway.member("mbr_demo_01"), await gateway.merchant("M05")
    wanted = "redemption { voucher { code } }"
    bought = await member.did("redeemOffer", wanted, offer="XH-01", legs=LEGS)
    code = bought["redemption"]["voucher"]["code"]
    answers = await asyncio.gather(*(cinema.do("verifyVoucher", code=code) for _ in range(8)))
    codes = [error["code"] for answer in answers for error in answer["errors"]]
    assert codes == ["ALREADY_USED"] * 7


async def test_purchases_at_once_never_exceed_the_budget(gateway):
    grocer = await gateway.merchant("M15")  # 800,000 points left
    answers = await asyncio.gather(
        *(
            grocer.do(
                "recordEarnEvent",
                member="mbr_xiaozhou",
                order=f"o{number}",
                cashFen=15_000_000,
                consumed=True,
            )
            for number in range(10)
        )
    )
    codes = [error["code"] for answer in answers for error in answer["errors"]]
    assert codes == ["BUDGET_EXCEEDED"] * 5


async def test_a_donation_taken_back_many_times_at_once_comes_back_once(gateway):
    member = await gateway.member("mbr_demo_20")
    wallet = "{ me { wallets { available } } }"
    before = await member.data(wallet)
    give = {"beneficiary": "M16", "programme": "P-HM", "points": 100}
    made = await member.did("donatePoints", "donation { id }", **give)
    undo = {"donation": made["donation"]["id"]}
    answers = await asyncio.gather(*(member.do("reverseDonation", **undo) for _ in range(8)))
    assert [answer["errors"] for answer in answers] == [[]] * 8
    assert await member.data(wallet) == before


async def test_two_workers_seal_the_journals_once(gateway, coalition):
    member = await gateway.member("mbr_demo_01")
    await member.did("redeemOffer", "redemption { id }", offer="XH-01", legs=LEGS)

    async def seal() -> int:
        async with coalition.database.transaction() as tx:
            return await audit.seal(tx, limit=1000)

    done = await asyncio.gather(*(seal() for _ in range(4)))
    assert sorted(done)[:3] == [0, 0, 0]
    async with coalition.database.reading() as tx:
        assert (await audit.verify(tx)).links == max(done)
