"""The operator's inbox over HTTP: what a person sees, and what two people do."""

from gateway.oauth.scopes import Role

LEGS = [{"programme": "P-LL"}]
SEEN = """query { reviews(first: 5) { edges { node {
  reason cameFrom step openedAt dueAt owner outcomes
  redemption { id state bookingRef legs { points } }
  calls { opKey verb attempt state detail }
  facts { opKey version outcome source bookingRef recordedAt }
  findings { code detail }
  resolutions { id outcome state proposedBy approvedBy } } } } }"""
DECIDED = "resolution { id state outcome amountFen } redemption { id state bookingRef }"


async def stuck(gateway, coalition) -> str:
    """A redemption whose confirm's key the partner knows with another body."""
    coalition.partners["M05"].script["confirm"] = ["conflict"]
    buyer = await gateway.member("mbr_demo_01")
    bought = await buyer.did("redeemOffer", "redemption { id state }", offer="XH-01", legs=LEGS)
    assert bought["redemption"]["state"] == "NEEDS_REVIEW"
    return bought["redemption"]["id"]


async def test_two_people_decide_what_the_rules_cannot(gateway, coalition):
    redemption = await stuck(gateway, coalition)
    maker = await gateway.staff(Role.OPERATOR, "usr_operator")
    checker = await gateway.staff(Role.OPERATOR, "usr_operator_checker")

    (edge,) = (await maker.data(SEEN))["reviews"]["edges"]
    found = edge["node"]
    assert (found["reason"], found["cameFrom"], found["step"]) == (
        "KEY_CONFLICT",
        "CONFIRMING",
        "confirm",
    )
    assert found["outcomes"] == ["COMMIT", "RELEASE"]
    assert {call["verb"]: call["state"] for call in found["calls"]} == {
        "hold": "ANSWERED",
        "confirm": "UNKNOWN",
    }
    assert [(fact["outcome"], fact["source"]) for fact in found["facts"]] == [("held", "answer")]
    assert (found["owner"], found["findings"], found["resolutions"]) == (None, [], [])

    asked = {"redemption": redemption, "outcome": "COMMIT", "note": "seen in their system"}
    proposed = await maker.did(
        "proposeReviewResolution", "resolution { id amountFen }", evidence="BK-7", **asked
    )
    assert proposed["resolution"]["amountFen"] == 4_500
    resolution = proposed["resolution"]["id"]
    refused = await maker.do("approveReviewResolution", DECIDED, resolution=resolution)
    assert [error["code"] for error in refused["errors"]] == ["FOUR_EYES_REQUIRED"]
    done = await checker.did("approveReviewResolution", DECIDED, resolution=resolution)
    assert done["redemption"] == {"id": redemption, "state": "COMMITTED", "bookingRef": "BK-7"}
    assert (await maker.data(SEEN))["reviews"]["edges"] == []


async def test_a_fence_is_asked_for_and_only_its_answer_settles(gateway, coalition):
    buyer = await gateway.member("mbr_demo_01")
    partner = coalition.partners["M05"]
    partner.script["confirm"], partner.script["fence"] = ["lost_before"], ["lost_before"]
    bought = await buyer.did("redeemOffer", "redemption { id state }", offer="XH-01", legs=LEGS)
    operator = await gateway.staff(Role.OPERATOR, "usr_operator")
    asked = {"redemption": bought["redemption"]["id"]}
    states = []
    for _ in range(2):
        fenced = await operator.did("fencePartnerOperation", "redemption { state }", **asked)
        states.append(fenced["redemption"]["state"])
    assert states == ["IN_DOUBT", "RELEASING"]
    await coalition.work(seconds=1)
    unknown = await operator.do(
        "fencePartnerOperation", "redemption { state }", redemption="red_none"
    )
    assert [error["code"] for error in unknown["errors"]] == ["NOT_FOUND"]
