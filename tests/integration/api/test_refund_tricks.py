"""Earn, spend, return, cancel and fulfil late, in every unlucky order: points are never made."""

LEGS = [{"programme": "P-LL"}]
WALLET = "{ me { wallets { available pending held owed } } }"


async def test_a_purchase_returned_after_its_points_are_spent_leaves_a_debt(gateway, coalition):
    member, grocer = await gateway.member("mbr_demo_01"), await gateway.merchant("M04")
    cinema = await gateway.merchant("M05")
    purchase = {"member": "mbr_demo_01", "order": "a", "cashFen": 1_000_000, "consumed": True}
    await grocer.did("recordEarnEvent", "earning { points }", **purchase)  # 10,000 on 20,000
    for _ in range(5):
        last = await member.did("redeemOffer", "redemption { id }", offer="XH-01", legs=LEGS)
    redemption = last["redemption"]["id"]
    taken = "taken { points fromAvailable owed }"
    part = await grocer.did("recordReturn", taken, order="a", cashFen=400_000)
    assert part["taken"] == {"points": 4_000, "fromAvailable": 4_000, "owed": 0}
    rest = await grocer.did("recordReturn", taken, order="a")
    assert rest["taken"] == {"points": 6_000, "fromAvailable": 3_500, "owed": 2_500}
    again = await grocer.did("recordReturn", taken, order="a")
    assert again["taken"] == {"points": 0, "fromAvailable": 0, "owed": 0}
    more = await grocer.refused("recordReturn", order="a", cashFen=1)
    assert more["code"] == "INVALID_AMOUNT"
    twice = await grocer.refused("recordEarnEvent", **purchase)
    assert (twice["code"], twice["field"]) == ("ALREADY_REGISTERED", ["order"])

    offered = await member.did("requestCancellation", "cancelQuote { id }", redemption=redemption)
    undo = {"redemption": redemption, "cancelQuote": offered["cancelQuote"]["id"]}
    for _ in range(2):
        await member.did("cancelRedemption", "redemption { state }", **undo)
    late = await cinema.refused("recordFulfilment", redemption=redemption)
    assert late["code"] == "HOLD_ALREADY_RESOLVED"
    (wallet,) = (await member.data(WALLET))["me"]["wallets"]
    assert wallet == {"available": 4_500, "pending": 0, "held": 0, "owed": 2_500}

    await grocer.did("recordEarnEvent", "earning { points }", **purchase | {"order": "b"})
    (wallet,) = (await member.data(WALLET))["me"]["wallets"]
    assert wallet == {"available": 4_500 + 10_000 - 2_500, "pending": 0, "held": 0, "owed": 0}
    assert await coalition.broken() == []
