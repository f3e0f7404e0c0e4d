"""Merchants without a server: the gateway keeps their offers, holds and vouchers."""

import re
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from gateway.catalog import service as catalog
from gateway.errors import NotFound, PartnerRejected, PartnerUnavailable
from gateway.members import service as members
from gateway.merchants import service as merchants
from gateway.ports import (
    CancelTooLate,
    Fact,
    FeedPage,
    HoldExpired,
    LiveOffer,
    Outcome,
    QuoteRequest,
    Reservation,
    SettlementNotice,
)
from gateway.redemption import donations
from gateway.redemption.hosted import HostedPartner
from gateway.redemption.model import (
    AlreadyUsed,
    DonationReversalClosed,
    OwnerMismatch,
    State,
    Step,
)
from gateway.redemption.service import vouchers
from gateway.settlement import service as settlement
from gateway.values import fingerprint
from tests.integration.conftest import Coalition

NOODLES = ("mbr_demo_01", "ZW-01", ("P-LL", None))


async def open_noodle_bar(coalition: Coalition) -> None:
    """A seventeenth merchant with one offer and one agreement, and no system of its own."""
    now = coalition.clock.now()
    async with coalition.database.transaction() as tx:
        await merchants.register(
            tx,
            id="M17",
            slug="zhiwei",
            name_zh="知味面馆",
            name_en="Zhiwei Noodles",
            category="餐饮",
            cities=["上海"],
            market="T1-2",
            roles=["issuer", "redeemer"],
            now=now,
            code_hours=72,
        )
        await catalog.publish_offer(
            tx,
            merchant_id="M17",
            id="ZW-01",
            name_zh="牛肉面",
            kind="voucher",
            category="餐饮",
            cash_fen=2_800,
            now=now,
        )
        await settlement.add_agreement(
            tx,
            issuer="M04",
            redeemer="M17",
            settlement_bps=9_000,
            fee_bps=50,
            monthly_cap_fen=1_000_000,
            valid_from=date(2026, 11, 1),
            valid_until=date(2028, 1, 1),
            signed_by=["M04", "M17"],
            now=now,
        )
        await members.grant_consent(
            tx,
            member_id="mbr_demo_01",
            purpose="partner_pair",
            issuer="M04",
            redeemer="M17",
            now=now,
        )


async def code_of(coalition: Coalition, redemption_id: str) -> str:
    async with coalition.database.reading() as tx:
        return (await vouchers(tx, [redemption_id]))[redemption_id].code


async def test_a_voucher_is_sold_and_taken_once(coalition: Coalition) -> None:
    await open_noodle_bar(coalition)
    done = await coalition.redeemed(*NOODLES)
    assert done.state is State.COMMITTED
    code = await code_of(coalition, done.id)
    take = {"merchant_id": "M17", "code": code}
    with pytest.raises(NotFound):
        await coalition.redemptions.verify_voucher(
            merchant_id="M05", code=code, holder=None, key="0"
        )
    with pytest.raises(OwnerMismatch):
        await coalition.redemptions.verify_voucher(**take, holder="mbr_lina", key="1")

    taken, _ = await coalition.redemptions.verify_voucher(**take, holder=None, key="2")
    again, replayed = await coalition.redemptions.verify_voucher(**take, holder=None, key="2")
    assert taken.state is again.state is State.FULFILLED
    assert replayed
    with pytest.raises(AlreadyUsed):
        await coalition.redemptions.verify_voucher(**take, holder=None, key="3")
    async with coalition.database.reading() as tx:
        rows = await settlement.obligations(tx, cause_id=done.id)
    assert {(str(row.type), row.amount_fen, row.window_id) for row in rows} == {
        ("REDEMPTION", 2_520, "win_2026W47"),
        ("FEE", 13, "win_2026W47"),
    }


async def test_a_member_cancels_an_unused_voucher(coalition: Coalition) -> None:
    await open_noodle_bar(coalition)
    done = await coalition.redeemed(*NOODLES)
    ask = {"member_id": "mbr_demo_01", "redemption_id": done.id}
    offered = await coalition.redemptions.cancel_quote(**ask)
    gone, _ = await coalition.redemptions.cancel(**ask, cancel_quote_id=offered.id, key="c")
    assert gone.state is State.CANCELLED
    with pytest.raises(NotFound):
        await coalition.redemptions.verify_voucher(
            merchant_id="M17", code=await code_of(coalition, done.id), holder=None, key="v"
        )


async def test_a_hold_nobody_confirms_is_fenced_here_too(coalition: Coalition) -> None:
    await open_noodle_bar(coalition)
    held = await coalition.held(*NOODLES)
    await coalition.work(minutes=16)
    assert (await coalition.get(held)).state is State.RELEASED
    partner = coalition.redemptions.partners["M17"]
    assert (await partner.status(held.op_key(Step.HOLD))).outcome == "fenced"


async def test_a_merchant_with_a_server_is_never_played_by_the_gateway(
    coalition: Coalition,
) -> None:
    del coalition.partners["M05"]
    with pytest.raises(PartnerUnavailable):
        await coalition.quote("mbr_demo_01", "XH-01", ("P-LL", None))


async def test_a_donation_burns_points_and_is_matched_in_goods(coalition: Coalition) -> None:
    give = {"beneficiary": "M16", "points_given": 1_000, "now": coalition.clock.now()}
    own = {"member_id": "mbr_demo_20", "programme_id": "P-HM"}
    before = await coalition.wallet("mbr_demo_20", "P-HM")
    async with coalition.database.transaction() as tx:
        made, _ = await donations.donate(tx, **own, **give, key="d")
        again, replayed = await donations.donate(tx, **own, **give, key="d")
    assert (made.face_fen, made.match_fen, again.id, replayed) == (1_000, 1_000, made.id, True)
    after = await coalition.wallet("mbr_demo_20", "P-HM")
    assert before[0] - after[0] == 1_000

    coalition.clock.forward(hours=23)
    async with coalition.database.transaction() as tx:
        back, _ = await donations.reverse(
            tx,
            member_id="mbr_demo_20",
            donation_id=made.id,
            key="r",
            now=coalition.clock.now(),
        )
    assert back.state == "REVERSED"
    assert await coalition.wallet("mbr_demo_20", "P-HM") == before


async def test_another_issuers_gift_is_owed_to_who_delivers_the_goods(
    coalition: Coalition,
) -> None:
    give = {"beneficiary": "M16", "points_given": 100, "now": coalition.clock.now()}
    async with coalition.database.transaction() as tx:
        made, _ = await donations.donate(
            tx, member_id="mbr_wanglei", programme_id="P-CA", **give, key="d"
        )
        rows = await settlement.obligations(tx, cause_id=made.id)
    assert made.match_fen == 1_000
    assert [(str(o.type), o.payer, o.payee, o.amount_fen) for o in rows] == [
        ("DONATION_GOODS", "M02", "M01", 1_000)
    ]


async def test_a_donation_is_final_after_a_day(coalition: Coalition) -> None:
    give = {"beneficiary": "M16", "points_given": 100, "now": coalition.clock.now()}
    async with coalition.database.transaction() as tx:
        made, _ = await donations.donate(
            tx, member_id="mbr_demo_20", programme_id="P-HM", **give, key="d"
        )
    coalition.clock.forward(hours=24)
    with pytest.raises(DonationReversalClosed):
        async with coalition.database.transaction() as tx:
            await donations.reverse(
                tx,
                member_id="mbr_demo_20",
                donation_id=made.id,
                key="r",
                now=coalition.clock.now(),
            )


# -- what the gateway answers in such a merchant's place ------------------------------------------

KEY, HOLD_KEY = "red_1:confirm:1", "red_1:hold:1"
LATE = timedelta(minutes=1)


async def bar(coalition: Coalition) -> HostedPartner:
    await open_noodle_bar(coalition)
    partner = coalition.redemptions.partners["M17"]
    assert isinstance(partner, HostedPartner)
    return partner


async def booked(partner: HostedPartner, now: datetime) -> Fact:
    held = await partner.hold("q", op_key=HOLD_KEY, ttl_seconds=60, claims=[])
    return await partner.confirm(
        held.hold_ref, op_key=KEY, deadline=now + LATE, gateway_ref="red_1"
    )


async def test_it_quotes_what_its_offers_cost(coalition: Coalition) -> None:
    partner, now = await bar(coalition), coalition.clock.now()
    for changes, list_fen in (({}, 5_600), ({"bill_fen": 4_000, "quantity": 1}, 4_000)):
        asked = (
            {"offer_id": "ZW-01", "slot": None, "quantity": 2, "bill_fen": None}
            | changes
            | {"member_ref": "p"}
        )
        made = await partner.quote(QuoteRequest(**asked))
        assert (made.list_fen, made.expires_at) == (list_fen, now + timedelta(minutes=15))
        assert made.id.startswith("ZW-01:")
        assert made.terms_hash == fingerprint({"offer": "ZW-01", "list_fen": list_fen})
    for offer, refusal, said in (
        ("ZW-99", PartnerRejected, {"merchant": "M17", "reason": "no such offer"}),
        ("XH-01", PartnerUnavailable, {"merchant": "M17", "retry_after_seconds": 60}),
    ):
        with pytest.raises(refusal) as refused:
            await partner.quote(QuoteRequest(offer, None, 1, None, "p"))
        assert refused.value.context == said
    assert await partner.live(["ZW-01"], on=None) == [LiveOffer("ZW-01", 2_800, None)]
    with pytest.raises(PartnerUnavailable) as unreachable:
        await partner.live(["ZW-01", "XH-01"], on=None)
    assert unreachable.value.context == {"merchant": "M17", "retry_after_seconds": 60}


async def test_a_key_acts_once_here_too(coalition: Coalition) -> None:
    partner, now = await bar(coalition), coalition.clock.now()
    assert (await partner.status(KEY)).outcome is Outcome.NOT_FOUND
    for ttl in (60, 99):
        held = await partner.hold("q", op_key=HOLD_KEY, ttl_seconds=ttl, claims=[])
        assert held == Reservation(HOLD_KEY, f"hh_{HOLD_KEY}", now + LATE)
    first = await booked(partner, now)
    assert (first.outcome, first.version, first.booking_ref) == (Outcome.CONFIRMED, 1, KEY)
    assert re.fullmatch(r"\d{8}", first.artefacts["code"])
    coalition.clock.forward(hours=1)
    assert await booked(partner, now) == first
    assert await partner.status(KEY) == first
    assert await partner.fence(KEY) == first  # It has taken effect: no fence undoes it.
    offered = await partner.cancel_quote(KEY)
    assert (offered.id, offered.refundable, offered.fee_fen, offered.expires_at) == (
        KEY, True, 0, coalition.clock.now() + timedelta(minutes=15)
    )  # fmt: skip
    gone = await partner.cancel(offered.id, op_key="red_1:cancel:1")
    assert (gone.outcome, gone.version, gone.booking_ref, gone.artefacts) == (
        Outcome.CANCELLED, 0, None, {}
    )  # fmt: skip


async def test_a_hold_is_confirmed_in_time_or_not_at_all(coalition: Coalition) -> None:
    partner, now = await bar(coalition), coalition.clock.now()
    held = await partner.hold("q", op_key=HOLD_KEY, ttl_seconds=60, claims=[])
    asked: dict[str, Any] = {"op_key": KEY, "gateway_ref": "red_1"}
    coalition.clock.forward(seconds=60)
    for deadline in (now + 2 * LATE, now + LATE / 2):
        with pytest.raises(HoldExpired) as expired:
            await partner.confirm(held.hold_ref, deadline=deadline, **asked)
        said = datetime.fromisoformat(expired.value.context["expired_at"])
        assert said == min(deadline, now + LATE)
    coalition.clock.forward(seconds=-1)
    assert (await partner.fence(HOLD_KEY)).outcome is Outcome.FENCED
    with pytest.raises(PartnerRejected) as fenced:
        await partner.confirm(held.hold_ref, deadline=now + LATE, **asked)
    assert fenced.value.context == {"merchant": "M17", "reason": "fenced"}
    with pytest.raises(PartnerRejected) as again:
        await partner.hold("q", op_key=HOLD_KEY, ttl_seconds=60, claims=[])
    assert again.value.context == {"merchant": "M17", "reason": "fenced"}
    assert (await partner.status(KEY)).outcome is Outcome.NOT_FOUND
    with pytest.raises(CancelTooLate) as unbooked:
        await partner.cancel_quote(KEY)
    assert unbooked.value.context == {"until": None}


async def test_what_such_a_merchant_does_not_do_is_said(coalition: Coalition) -> None:
    partner, now = await bar(coalition), coalition.clock.now()
    assert await partner.list_offers("7") == FeedPage((), "7", more=False)
    assert await partner.list_offers(None) == FeedPage((), "", more=False)
    with pytest.raises(ValueError, match="M17 sends no webhooks"):
        partner.event({})
    with pytest.raises(PartnerRejected) as none:
        await partner.statement(date(2026, 11, 20))
    said = {"merchant": "M17", "reason": "no statement of its own for 2026-11-20"}
    assert none.value.context == said
    notice = SettlementNotice("set_1", "ins_1", "M04", "M17", 700, "hash")
    receipt = await partner.settlement_notice(notice, op_key="k")
    assert (receipt.receipt_ref, receipt.received_at) == ("hosted:ins_1:k", now)
