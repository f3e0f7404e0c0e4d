"""The signed head of the audit chain: published, sent with every notice, and nothing else."""

from datetime import UTC, datetime

import httpx2
import pytest
import sqlalchemy as sa

from gateway import jobs
from gateway.audit import service as audit
from gateway.audit.model import HEAD_TYPE, head_of
from gateway.oauth import jose
from gateway.settlement import service as settlement
from gateway.worker import Worker
from tests.integration.api.test_merchant_journeys import settle
from tests.integration.conftest import Coalition
from tests.support.gateway import Gateway

LEGS = [{"programme": "P-LL"}]


def worker(gateway: Gateway) -> Worker:
    runtime = gateway.runtime
    return Worker(
        runtime.database,
        runtime.partners,
        runtime.clock,
        runtime.settings,
        runtime.redemptions,
        sign_head=runtime.sign_head,
    )


async def consumed(gateway: Gateway, merchant: str = "M05", offer: str = "XH-01") -> None:
    """One redemption with a foreign leg, ready for the window."""
    member, shop = await gateway.member("mbr_demo_01"), await gateway.merchant(merchant)
    done = await member.did("redeemOffer", "redemption { id }", offer=offer, legs=LEGS)
    ids = {"redemption": done["redemption"]["id"]}
    await shop.did("recordFulfilment", "redemption { state }", **ids)


async def noticed(gateway: Gateway, coalition: Coalition) -> str:
    """The settlement of what was consumed; its notices are out."""
    found = await settle(gateway, coalition)
    for _ in range(3):
        await worker(gateway).turn()
    return found


@pytest.fixture
async def settled(gateway, coalition) -> str:
    """A settlement with legs, whose notices are out."""
    await consumed(gateway)
    return await noticed(gateway, coalition)


async def published(gateway: Gateway) -> dict:
    async with httpx2.AsyncClient() as http:
        answer = await http.get(f"{gateway.base}/audit/head")
    assert answer.status_code == 200
    return answer.json()["head"]


async def test_nothing_sealed_has_no_head(gateway) -> None:
    assert await published(gateway) is None


async def test_every_notice_brings_the_same_signed_head(gateway, coalition, settled) -> None:
    notices = [notice for partner in coalition.partners.values() for _, notice in partner.notices]
    assert notices
    (token,) = {notice.audit_head for notice in notices}
    async with httpx2.AsyncClient() as http:
        jwks = (await http.get(f"{gateway.base}/oauth/jwks")).json()["keys"]
    header = jose.header(token)
    assert header["typ"] == HEAD_TYPE
    (key,) = [jwk for jwk in jwks if jwk["kid"] == header["kid"]]
    head = head_of(jose.decode(token, jose.load(key))[1])
    assert head.issuer == gateway.base
    async with coalition.database.reading() as tx:
        approved = (await settlement.settlement(tx, settled)).approved_at
        assert head.made_at >= approved, "the approval is in it"
        kinds = {row["kind"] for row in await audit.entries(tx, subject=settled, limit=10)}
        assert (await audit.verify(tx, kept=head)).links >= head.number
    assert kinds == {"settlement.approved"}


async def test_a_lost_answer_is_asked_again_with_the_same_head(gateway, coalition) -> None:
    for partner in coalition.partners.values():
        partner.script["settlement_notice"] = ["lost_before"] * 50
    await consumed(gateway)
    await settle(gateway, coalition)
    at_work = worker(gateway)
    await at_work.turn()
    async with coalition.database.transaction() as tx:
        waiting = jobs.jobs.c.state == "DUE"
        again = {"due_at": datetime(2020, 1, 1, tzinfo=UTC), "leased_until": None}
        await tx.execute(sa.update(jobs.jobs).where(waiting).values(again))
    for partner in coalition.partners.values():
        partner.script.clear()
    coalition.clock.forward(hours=3)
    await at_work.turn()
    asked: dict[str, list] = {}
    for partner in coalition.partners.values():
        for op_key, notice in partner.notices:
            asked.setdefault(op_key, []).append(notice)
    assert asked
    assert {len(each) for each in asked.values()} == {2}
    assert all(first == second for first, second in asked.values())


async def test_the_newest_head_is_published_and_is_no_token(gateway, settled) -> None:
    head = await published(gateway)
    assert head["number"] > 0
    assert jose.header(head["token"])["kid"] == head["kid"] == head["jwk"]["kid"]
    async with httpx2.AsyncClient() as http:
        answer = await http.get(
            f"{gateway.base}/bills/2026-11-20.csv",
            headers={"authorization": f"Bearer {head['token']}"},
        )
    assert answer.status_code == 401
