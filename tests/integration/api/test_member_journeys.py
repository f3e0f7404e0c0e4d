"""What a member does over HTTP: look, quote, hold, confirm, cancel, give."""

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
