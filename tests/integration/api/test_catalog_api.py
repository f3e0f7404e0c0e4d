"""The catalog over HTTP: pages, prices, partners that do not answer, and few statements."""

import pytest

from gateway.oauth.scopes import Role

PAGE = """
query Page($first: Int!, $after: String, $filter: OffersFilter) {
  offers(first: $first, after: $after, filter: $filter) {
    edges { cursor node { id nameZh cashFen merchant { nameZh }
      prices { points formula programme { nameZh value { num den } } } } }
    pageInfo { hasNextPage endCursor }
    warnings { merchant code message }
  }
}
"""


async def test_everybody_with_catalog_read_sees_the_coalition(gateway):
    client = await gateway.staff(Role.FINANCE, "usr_fin_maker")
    found = await client.data(
        "{ coalition { nameZh service operator { id } }"
        "  merchants(first: 100) { edges { node { id nameZh programme { id } } } }"
        "  programmes { id nameZh value { num den } issuer { id } }"
        '  acceptance(redeemer: "M05") { issuer { id } redeemer { id } } }'
    )
    assert found["coalition"] == {
        "nameZh": "红米好物",
        "service": "消费积分",
        "operator": {"id": "M01"},
    }
    assert len(found["merchants"]["edges"]) == 16
    hotel = next(row for row in found["programmes"] if row["id"] == "P-YQ")
    assert hotel["value"] == {"num": 5, "den": 3}
    assert "M04" in {row["issuer"]["id"] for row in found["acceptance"]}


async def test_a_price_is_shown_in_each_programme_accepted_for_the_offer(gateway):
    member = await gateway.member("mbr_demo_01")
    found = await member.data(
        '{ offer(id: "XH-01") { cashFen prices { points own programme { id } affordable } } }'
    )
    prices = {row["programme"]["id"]: row["points"] for row in found["offer"]["prices"]}
    assert prices["P-LL"] == 4500
    assert prices["P-CA"] == 450
    assert prices["P-YQ"] == 2700
    affordable = {row["programme"]["id"] for row in found["offer"]["prices"] if row["affordable"]}
    assert affordable == {"P-LL"}


async def test_pages_follow_each_other_without_gap_or_repetition(gateway):
    member = await gateway.member("mbr_demo_01")
    seen, after = [], None
    while True:
        page = (await member.data(PAGE, first=40, after=after))["offers"]
        seen += [edge["node"]["id"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert len(seen) == len(set(seen)) == 92


@pytest.mark.parametrize("first", [1, 20])
async def test_a_page_costs_the_same_few_statements_whatever_its_length(gateway, first):
    member = await gateway.member("mbr_demo_01")
    await member.data(PAGE, first=1)  # What the token needs is read once.
    with gateway.counting() as statements:
        await member.data(PAGE, first=first)
    reads = [text for text in statements if "revo" not in text and "clock" not in text]
    assert len(reads) <= 8, reads


async def test_affordable_offers_are_those_one_wallet_pays_for(gateway):
    member = await gateway.member("mbr_demo_04")  # 500 or so convenience points
    found = await member.data(PAGE, first=100, filter={"affordable": True})
    (wallet,) = (await member.data("{ me { wallets { available } } }"))["me"]["wallets"]
    for edge in found["offers"]["edges"]:
        mine = [
            p["points"] for p in edge["node"]["prices"] if p["programme"]["nameZh"] == "邻里积分"
        ]
        assert min(mine) <= wallet["available"]


LIVE = """
{ offers(filter: {text: "电影"}, first: 5) { edges { node { id live { listFen left } } } }
  warnings { merchant code message } }
"""


async def test_a_partner_that_does_not_answer_costs_a_warning_never_the_query(gateway, coalition):
    member = await gateway.member("mbr_demo_15")
    coalition.partners["M05"].script["live"] = ["not_sent"] * 9
    found = await member.data(LIVE)
    live = {edge["node"]["id"]: edge["node"]["live"] for edge in found["offers"]["edges"]}
    assert "XH-01" in live
    assert live["XH-01"] is None
    assert found["warnings"] == [
        {
            "merchant": "M05",
            "code": "PARTNER_UNAVAILABLE",
            "message": "星汇影城暂时无响应,相关内容暂缺",
        }
    ]
