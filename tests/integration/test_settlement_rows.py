"""Every word of what settlement services write: obligations, journals, jobs, audit, events."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import date, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db, jobs
from gateway.audit.store import entries
from gateway.db import Database
from gateway.errors import NotFound
from gateway.events import service as events
from gateway.ledger import service as ledger
from gateway.ledger.model import HUB, Journal, Kind
from gateway.merchants import service as merchants
from gateway.ports import NoticeReceipt
from gateway.settlement import service as settlement
from gateway.settlement.model import (
    Agreement,
    AgreementKind,
    LegState,
    LegToReserve,
    Obligation,
    SettlementLeg,
    State,
    Type,
    cut_of,
    end_to_end_id,
)
from gateway.values import InvalidAmount, InvalidInput
from tests.support import issuers as coalition
from tests.support.issuers import NOW

LATER = NOW + timedelta(hours=1)
W47 = "win_2026W47"
TERMS: dict[str, Any] = {"issuer": "M04", "redeemer": "M05", "settlement_bps": 9_000}
TERMS |= {"fee_bps": 50, "monthly_cap_fen": 100_000, "now": NOW}
TERMS |= {"valid_from": date(2026, 1, 1), "valid_until": date(2030, 1, 1)}
RED: dict[str, Any] = {"cause_id": "red_1", "epoch": 2}


@pytest.fixture
async def small(database: Database) -> Database:
    """Issuer M04, redeemer M05, and the operator."""
    async with database.transaction() as tx:
        await merchants.register(
            tx, id="M00", slug="operator", name_zh="运营方", name_en="operator",
            category="operator", cities=[], market="ALL", roles=["operator"], operator={},
            now=NOW, code_hours=72,
        )  # fmt: skip
        for merchant in ("M04", "M05", "M06"):
            await coalition.add_merchant(tx, merchant)
        for merchant in ("M04", "M05"):
            await settlement.set_cover(
                tx, merchant_id=merchant, collateral_fen=50_000, net_debit_cap_fen=60_000
            )
        await settlement.add_agreement(tx, **TERMS, signed_by=["M05", "M04"])
    return database


async def sell(
    tx: AsyncConnection, face_fen: int = 2_000, *, redeemer: str = "M05", **more: Any
) -> None:
    """Reserve and accrue one foreign leg."""
    agreement = await settlement.agreement_for(
        tx, issuer="M04", redeemer=redeemer, offer_id="XH-01", category="电影", at=NOW
    )
    asked = RED | more
    legs = [LegToReserve(3, agreement, "XH-01", face_fen)]
    taken = await settlement.reserve_legs(tx, legs=legs, at=NOW, **asked)
    await post(tx, settlement.reserved_lines(taken), asked["cause_id"])
    await post(tx, await settlement.accrue(tx, at=LATER, **asked), asked["cause_id"])


async def post(tx: AsyncConnection, lines: dict[int, Any], cause: str) -> None:
    """The HUB lines as a journal of their own, as far as they balance by themselves."""
    flat = tuple(line for of_leg in lines.values() for line in of_leg)
    before = len(await ledger.entries(tx, limit=1_000))
    journal = Journal(Kind.ADJUST, f"{cause}:test:{before}", flat, NOW, "test", cause_id=cause)
    await ledger.post(tx, [journal], now=NOW)


async def rows(tx: AsyncConnection, cause: str = "red_1") -> dict[Type, Obligation]:
    await db.flush(tx)
    found = await settlement.obligations(tx, cause_id=cause)
    assert len({row.type for row in found}) == len(found)
    return {row.type: row for row in found}


def shown(row: Obligation) -> dict[str, Any]:
    return {name: value for name, value in asdict(row).items() if name != "id"}


CLAIM = {
    "type": Type.REDEMPTION, "cause_id": "red_1", "epoch": 2, "leg_no": 3, "issuer": "M04",
    "redeemer": "M05", "payer": "M04", "payee": "M05", "amount_fen": 1_800,
    "state": State.ACCRUED, "accrued_at": LATER, "face_fen": 2_000, "offer_id": "XH-01",
    "agreement_id": "agr_M04_M05", "agreement_version": 1, "usage_month": "2026-11",
    "corrects_id": None, "cleared_at": None, "business_date": None, "window_id": None,
    "settlement_id": None,
}  # fmt: skip
FEE = CLAIM | {"type": Type.FEE, "payee": "HUB_FEE", "amount_fen": 9}
ENTERED = {"state": State.IN_WINDOW, "window_id": W47, "business_date": date(2026, 11, 20)}


async def test_what_is_accrued_and_cleared_says_all_of_it(small: Database) -> None:
    async with small.transaction() as tx:
        await sell(tx)
        found = await rows(tx)
        assert {of: shown(row) for of, row in found.items()} == {
            Type.REDEMPTION: CLAIM,
            Type.FEE: FEE,
        }
        assert all(row.id.startswith("obl_") for row in found.values())
        cover = await settlement.cover_of(tx, merchant_id="M04")
        assert cover
        assert (cover.reserved_fen, cover.debit_fen, cover.credit_fen) == (0, 1_809, 0)
        for count in (2, 0):
            moved = await settlement.clear(tx, cause_id="red_1", at=LATER)
            assert len(moved) == count
        found = await rows(tx)
        assert shown(found[Type.FEE]) == FEE | ENTERED | {"cleared_at": LATER}
        cover = await settlement.cover_of(tx, merchant_id="M05")
        assert cover
        assert (cover.reserved_fen, cover.debit_fen, cover.credit_fen) == (0, 0, 1_800)


@pytest.mark.parametrize("cleared", [False, True])
async def test_a_lower_face_takes_part_of_each_claim_back(small: Database, cleared: bool) -> None:
    async with small.transaction() as tx:
        await sell(tx)
        if cleared:
            await settlement.clear(tx, cause_id="red_1", at=LATER)
        claims = await rows(tx)
        lines = await settlement.adjust(tx, kept_face={3: 1_000, 1: 5}, at=LATER, **RED)
        assert sorted(lines) == [3]
        await db.flush(tx)
        parts = [
            row
            for row in await settlement.obligations(tx, cause_id="red_1")
            if row.type is Type.REVERSAL
        ]
        by_row = {part.corrects_id: shown(part) for part in parts}
        entered = ENTERED | {"cleared_at": LATER} if cleared else {}
        for kind, payee, fen in ((Type.REDEMPTION, "M05", 900), (Type.FEE, "HUB_FEE", 4)):
            of = claims[kind].id
            assert by_row[of] == CLAIM | entered | {
                "type": Type.REVERSAL, "payer": payee, "payee": "M04", "amount_fen": fen,
                "face_fen": None, "corrects_id": of,
            }  # fmt: skip
        used = await settlement.used_fen(tx, agreement_id="agr_M04_M05", month="2026-11")
        assert used == 900
        assert await settlement.adjust(tx, kept_face={3: 1_000}, at=LATER, **RED) == {}


async def test_a_redeemer_at_fault_bears_the_fee(small: Database) -> None:
    async with small.transaction() as tx:
        await sell(tx)
        claims = await rows(tx)
        lines = await settlement.reverse(tx, fault="REDEEMER", at=LATER, **RED)
        assert sorted(lines) == [3]
        found = await rows(tx)
        entered = ENTERED | {"cleared_at": LATER, "face_fen": None}
        assert shown(found[Type.REVERSAL]) == CLAIM | entered | {
            "type": Type.REVERSAL, "payer": "M05", "payee": "M04",
            "corrects_id": claims[Type.REDEMPTION].id,
        }  # fmt: skip
        assert shown(found[Type.ADJUSTMENT]) == FEE | entered | {
            "type": Type.ADJUSTMENT, "payer": "M05", "payee": "M04",
            "corrects_id": claims[Type.FEE].id,
        }  # fmt: skip
        assert found[Type.REDEMPTION].window_id == W47
        assert await settlement.reverse(tx, fault="MEMBER", at=LATER, **RED) == {}
        for merchant, debit, credit in (("M04", 1_809, 1_809), ("M05", 1_809, 1_800)):
            cover = await settlement.cover_of(tx, merchant_id=merchant)
            assert cover
            assert (cover.debit_fen, cover.credit_fen) == (debit, credit)


ALONE = CLAIM | ENTERED | {"epoch": 1, "leg_no": 1, "cleared_at": LATER, "face_fen": None}
ALONE |= {"offer_id": None, "agreement_id": None, "agreement_version": None, "usage_month": None}


async def test_claims_of_their_own_enter_the_window_at_once(small: Database) -> None:
    async with small.transaction() as tx:
        await settlement.compensate(
            tx, issuer="M04", redeemer="M05", fen=70, leg_no=3, at=LATER, **RED
        )
        wrong = (await rows(tx))[Type.COMPENSATION].id
        await settlement.correct(
            tx, cause_id="case_1", payer="M05", payee="M04", fen=80, at=LATER, key="k",
            corrects_id=wrong,
        )  # fmt: skip
        await settlement.owe_goods(
            tx, donation_id="don_1", issuer="M04", payee="M06", fen=90, at=LATER
        )
        owed = await rows(tx)
        assert shown(owed[Type.COMPENSATION]) == ALONE | {
            "type": Type.COMPENSATION, "epoch": 2, "leg_no": 3, "payer": "M05", "payee": "M04",
            "amount_fen": 70,
        }  # fmt: skip
        corrected = (await rows(tx, "case_1"))[Type.ADJUSTMENT]
        assert shown(corrected) == ALONE | {
            "type": Type.ADJUSTMENT, "cause_id": "case_1", "issuer": "M05", "redeemer": "M04",
            "payer": "M05", "payee": "M04", "amount_fen": 80, "corrects_id": wrong,
        }  # fmt: skip
        goods = (await rows(tx, "don_1"))[Type.DONATION_GOODS]
        assert shown(goods) == ALONE | {
            "type": Type.DONATION_GOODS, "cause_id": "don_1", "redeemer": "M06", "payee": "M06",
            "amount_fen": 90, "face_fen": 90,
        }  # fmt: skip
    with pytest.raises(sa.exc.IntegrityError):
        async with small.transaction() as tx:
            await settlement.compensate(
                tx, issuer="M04", redeemer="M05", fen=70, leg_no=3, at=LATER, **RED
            )
    with pytest.raises(sa.exc.IntegrityError):
        async with small.transaction() as tx:
            await settlement.correct(
                tx, cause_id="case_2", payer="M05", payee="M04", fen=1, at=LATER, key="k"
            )


async def recorded(tx: AsyncConnection, kind: str) -> list[Any]:
    await db.flush(tx)
    e = entries.c
    found = await tx.execute(sa.select(e.subject, e.actor, e.body).where(e.kind == kind))
    made = [tuple(row) for row in found]
    return sorted(made, key=lambda row: (row[1], sorted(map(str, row[2].values()))))


async def told(tx: AsyncConnection, type: str) -> list[Any]:
    found = await events.newest_events(tx, since=None, limit=100)
    return [(event.object_id, event.merchants, event.data) for event in found if event.type == type]


async def test_a_proposed_agreement_keeps_every_term(small: Database) -> None:
    terms = TERMS | {"redeemer": "M06", "kind": AgreementKind.DONATION}
    scope = {"offers": ["a", "b"], "categories": ["公益"], "payee": "M05"}
    async with small.transaction() as tx:
        made = await settlement.propose_agreement(tx, proposer="M05", **terms, **scope)
        assert made == Agreement(
            "agr_M04_M06", 1, "M04", "M06", AgreementKind.DONATION, 9_000, 50, 100_000,
            date(2026, 1, 1), date(2030, 1, 1), ("a", "b"), ("公益",), "M05", ("M05",), None,
        )  # fmt: skip
        assert await settlement.agreements(tx, agreement_ids=["agr_M04_M06"]) == [made]
        assert await settlement.agreements(tx, merchant="M05", agreement_ids=["agr_x"]) == []
        for merchant in ("M04", "M05"):
            mine = await settlement.agreements(tx, merchant=merchant)
            assert {each.id for each in mine} == {"agr_M04_M05", "agr_M04_M06"}
        (mine,) = await settlement.agreements(tx, merchant="M06")
        assert mine.id == "agr_M04_M06"
        assert len(await settlement.agreements(tx)) == 2
        sign: dict[str, Any] = {"agreement_id": "agr_M04_M06", "now": LATER}
        half = await settlement.sign_agreement(tx, merchant_id="M06", **sign)
        assert half == replace(made, signed_by=("M05", "M06"))
        done = await settlement.sign_agreement(tx, merchant_id="M04", version=1, **sign)
        assert done == replace(made, signed_by=("M04", "M05", "M06"), signed_at=LATER)
        assert await settlement.sign_agreement(tx, merchant_id="M04", **sign) == done
        assert await settlement.agreements(tx, agreement_ids=["agr_M04_M06"]) == [done]
        assert await recorded(tx, "agreement.signed") == [
            ("agr_M04_M06", "M04", {"version": 1, "signed_by": ["M04", "M05", "M06"]}),
            ("agr_M04_M06", "M06", {"version": 1, "signed_by": ["M05", "M06"]}),
        ]
        with pytest.raises(NotFound) as refusal:
            await settlement.sign_agreement(tx, merchant_id="M04", version=2, **sign)
        assert refusal.value.context == {"id": "agr_M04_M06"}


async def test_the_one_to_be_signed_is_named_when_several_wait(small: Database) -> None:
    async with small.transaction() as tx:
        for _ in range(2):
            await settlement.propose_agreement(tx, proposer="M04", **TERMS)
        sign: dict[str, Any] = {"agreement_id": "agr_M04_M05", "merchant_id": "M05", "now": LATER}
        with pytest.raises(InvalidInput) as refusal:
            await settlement.sign_agreement(tx, **sign)
        assert refusal.value.field == ("version",)
        assert (await settlement.sign_agreement(tx, version=2, **sign)).version == 2
        between = {"issuers": ["M04"], "redeemers": ["M05", "M06"], "at": NOW}
        found = await settlement.agreements_between(tx, **between)
        assert [each.version for each in found] == [2, 1]
        assert await settlement.agreements_between(tx, kind="donation", **between) == []
        assert len(await settlement.agreements_between(tx, kind=None, **between)) == 2
        assert await settlement.agreements_between(tx, **between | {"issuers": ["M05"]}) == []


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"valid_until": date(2026, 1, 1)}, InvalidInput),
        ({"monthly_cap_fen": -1}, InvalidAmount),
        ({"settlement_bps": 0}, InvalidInput),
    ],
)
async def test_terms_are_checked(
    small: Database, changes: dict[str, Any], refusal: type[InvalidInput]
) -> None:
    async with small.transaction() as tx:
        with pytest.raises(refusal) as refused:
            await settlement.add_agreement(tx, **TERMS | changes)
        assert refused.value.field == (next(iter(changes)),)
        limits = {"collateral_fen": 0, "net_debit_cap_fen": 0}
        await settlement.set_cover(tx, merchant_id="M06", **limits)
        for name in limits:
            with pytest.raises(InvalidAmount) as negative:
                await settlement.set_cover(tx, merchant_id="M06", **limits | {name: -1})
            assert negative.value.field == (name,)


async def approved(tx: AsyncConnection, window: str, **more: Any) -> str:
    """Cut, net, publish, propose and approve; the settlement's id."""
    cut = cut_of(window)
    closed = await settlement.close_window(tx, window_id=window, now=cut)
    assert (closed.id, closed.state, closed.closed_at) == (window, "CLOSED", cut)
    await settlement.net_window(tx, window_id=window, now=cut)
    await settlement.publish_window(tx, window_id=window, now=cut)
    draft = await settlement.propose_settlement(tx, window_id=window, actor="a", now=cut, **more)
    await settlement.approve_settlement(
        tx, settlement_id=draft.id, net_hash=draft.net_hash, actor="b", limit_fen=10**9, now=cut
    )
    return draft.id


async def states(tx: AsyncConnection, settlement_id: str) -> set[State]:
    found = await settlement.obligations(tx, settlement_id=settlement_id)
    return {row.state for row in found}


async def notices(tx: AsyncConnection, legs: Sequence[SettlementLeg]) -> dict[str, str]:
    """The lanes of the notices queued for some legs, by leg and merchant."""
    j = jobs.jobs.c
    found = await tx.execute(sa.select(j.key, j.lane).where(j.name == "settlement_notice"))
    lanes = {key.split(":", 1)[1]: lane for key, lane in found}
    mine = {leg.id for leg in legs}
    return {key: lane for key, lane in lanes.items() if key.split(":")[0] in mine}


async def test_a_payment_settles_its_own_settlement_only(small: Database) -> None:
    cut = cut_of(W47)
    async with small.transaction() as tx:
        await sell(tx)
        await settlement.clear(tx, cause_id="red_1", at=LATER)
        first = await approved(tx, W47)
        ((_, net),) = await ledger.entries(tx, cause_id=first, limit=9)
        assert (net.kind, net.op_key, net.actor, net.approver, net.cause_id, net.effective_at) == (
            Kind.NET, f"{first}:net", "a", "b", first, cut
        )  # fmt: skip
        assert {line.book for line in net.lines} == {HUB}
        made = await settlement.settlement(tx, first)
        positions = {"M04": -1_809, "M05": 1_800, "HUB_FEE": 9}
        said = {"net_hash": made.net_hash, "count": 2, "sum_fen": 1_809, "positions": positions}
        assert await recorded(tx, "settlement.published") == [(W47, "gateway", said)]
        assert await told(tx, "settlement.published") == [(W47, ("*",), {"netHash": made.net_hash})]
        said = {"net_hash": made.net_hash, "total_fen": 1_809, "limit_fen": 10**9}
        assert await recorded(tx, "settlement.approved") == [
            (first, "b", said | {"proposed_by": "a"})
        ]
        assert (await settlement.window(tx, W47)).state == "INSTRUCTED"
        third = TERMS | {"redeemer": "M06"}
        await settlement.add_agreement(tx, **third, signed_by=["M04", "M06"])
        await sell(tx, cause_id="red_2", redeemer="M06")
        await settlement.clear(tx, cause_id="red_2", at=cut)
        second = await approved(tx, "win_2026W48")

        legs = await settlement.legs(tx, settlement_id=first)
        assert [(leg.payer, leg.payee, leg.amount_fen, leg.end_to_end_id) for leg in legs] == [
            ("M04", "HUB_FEE", 9, end_to_end_id(first, 1)),
            ("M04", "M05", 1_800, end_to_end_id(first, 2)),
        ]
        assert await notices(tx, legs) == {
            f"{legs[0].id}:M00": "M00",
            f"{legs[0].id}:M04": "M04",
            f"{legs[1].id}:M04": "M04",
            f"{legs[1].id}:M05": "M05",
        }
        for leg in legs:
            with_time = await settlement.book_leg(tx, leg_id=leg.id, actor="bank", now=cut)
            assert with_time.booked_at == cut
            ((_, booked),) = await ledger.entries(tx, cause_id=leg.id, limit=9)
            assert (booked.kind, booked.op_key, booked.actor, booked.cause_id) == (
                Kind.BOOKED, f"{leg.id}:booked", "bank", leg.id
            )  # fmt: skip
            again = await settlement.book_leg(
                tx, leg_id=leg.id, actor="bank", now=cut + timedelta(days=1)
            )
            assert again.booked_at == cut
            partly = await settlement.settlement(tx, first)
            assert partly.state == ("SETTLED" if leg is legs[-1] else "PARTIAL")
        assert await states(tx, first) == {State.SETTLED}
        assert await states(tx, second) == {State.IN_SETTLEMENT}
        assert (await settlement.window(tx, W47)).state == "SETTLED"
        assert await told(tx, "settlement.booked") == [
            (first, ("M00", "M04", "M05"), {"window": W47})
        ]
        cover = await settlement.cover_of(tx, merchant_id="M04")
        assert cover
        assert (cover.debit_fen, cover.credit_fen) == (1_809, 0)


async def test_notices_and_answers_are_kept_once(small: Database) -> None:
    cut = cut_of(W47)
    async with small.transaction() as tx:
        await sell(tx)
        await settlement.clear(tx, cause_id="red_1", at=LATER)
        made = await settlement.settlement(tx, await approved(tx, W47))
        (leg,) = await settlement.legs(tx, settlement_id=made.id, merchant="M05")
        notice = await settlement.notice(tx, leg.id)
        assert asdict(notice).items() >= {
            "settlement_id": made.id, "leg_id": leg.id, "payer": "M04", "payee": "M05",
            "amount_fen": 1_800, "net_hash": made.net_hash,
        }.items()  # fmt: skip
        for ref in ("first", "second"):
            receipt = NoticeReceipt(ref, cut)
            await settlement.record_notice(
                tx, leg_id=leg.id, merchant="M04", receipt=receipt, at=cut
            )
        answer: dict[str, Any] = {"leg_id": leg.id, "client_id": "c", "now": cut}
        for signature in ("s1", "s2"):
            sent = await settlement.acknowledge_leg(
                tx, merchant="M04", signature=signature, **answer
            )
            assert sent.state == "SENT"
        debtor, creditor = sent.parties
        assert (debtor.merchant_id, debtor.receipt_ref, debtor.noticed_at) == ("M04", "first", cut)
        assert (debtor.ack_client_id, debtor.ack_signature, debtor.acknowledged_at) == (
            "c", "s1", cut
        )  # fmt: skip
        assert (creditor.receipt_ref, creditor.acknowledged_at) == (None, None)
        done = await settlement.acknowledge_leg(tx, merchant="M05", signature="s3", **answer)
        assert done.state == "BOOKED"
        assert await recorded(tx, "leg.acknowledged") == [
            (leg.id, "c", {"merchant": "M04", "roles": ["DEBTOR"], "signature": "s1"}),
            (leg.id, "c", {"merchant": "M05", "roles": ["CREDITOR"], "signature": "s3"}),
        ]
        with pytest.raises(NotFound) as refusal:
            await settlement.acknowledge_leg(tx, merchant="M06", signature="s", **answer)
        assert refusal.value.context == {"id": leg.id}


async def test_its_parties_are_told_of_a_payment_step_by_step(small: Database) -> None:
    cut = cut_of(W47)
    async with small.transaction() as tx:
        await sell(tx)
        await settlement.clear(tx, cause_id="red_1", at=LATER)
        first = await approved(tx, W47)
        (leg,) = await settlement.legs(tx, settlement_id=first, merchant="M05")
        answer: dict[str, Any] = {"leg_id": leg.id, "client_id": "c", "now": cut}
        said = {"settlement": first, "payer": "M04", "payee": "M05", "amountFen": 1_800}
        mine = (leg.id, ("M04", "M05"), said)
        for merchant, word in (("M04", "sent"), ("M05", "booked")):
            assert await told(tx, f"settlement.leg.{word}") == []
            await settlement.acknowledge_leg(tx, merchant=merchant, signature="s", **answer)
            assert await told(tx, f"settlement.leg.{word}") == [mine]
        assert await told(tx, "settlement.booked") == []  # The fee is not paid yet.
        found = await events.newest_events(tx, since=None, limit=100)
        assert {event.occurred_at for event in found if event.object_id == leg.id} == {cut}
        instructed = await told(tx, "settlement.leg.instructed")
        assert mine in instructed
        assert {parties for _, parties, _ in instructed} == {("M04", "M05"), ("M00", "M04")}


async def test_payments_are_found_by_what_became_of_them(small: Database) -> None:
    async with small.transaction() as tx:
        await sell(tx)
        await settlement.clear(tx, cause_id="red_1", at=LATER)
        first = await approved(tx, W47)
        (fee, sale) = await settlement.legs(tx, settlement_id=first)
        await settlement.book_leg(tx, leg_id=sale.id, actor="bank", now=cut_of(W47))
        for states, found in (
            ([LegState.BOOKED], [sale.id]),
            ([LegState.APPROVED], [fee.id]),
            ([LegState.APPROVED, LegState.BOOKED], [fee.id, sale.id]),
            ([LegState.DRAFT], []),
        ):
            legs = await settlement.legs(tx, settlement_id=first, states=states)
            assert [leg.id for leg in legs] == found
        (stored,) = await settlement.settlements(tx, window_id=W47)
        assert (stored.approved_by, stored.approved_at) == ("b", cut_of(W47))


@pytest.mark.parametrize("model", ["BILATERAL_NET", "MULTILATERAL_NET", "GROSS"])
async def test_a_payment_settles_what_it_pays_and_nothing_else(small: Database, model: str) -> None:
    owed = [("M04", "M05", 900), ("M05", "M04", 200), ("M06", "M04", 50), ("M05", "M06", 30)]
    async with small.transaction() as tx:
        for number, (payer, payee, fen) in enumerate(owed):
            lines = await settlement.correct(
                tx, cause_id=f"case_{number}", payer=payer, payee=payee, fen=fen, at=LATER,
                key=f"k{number}",
            )  # fmt: skip
            await post(tx, {1: lines}, f"case_{number}")
        first = await approved(tx, W47, model=model)
        lines = await settlement.correct(
            tx, cause_id="next", payer="M05", payee="M06", fen=11, at=cut_of(W47), key="next"
        )
        await post(tx, {1: lines}, "next")
        second = await approved(tx, "win_2026W48", model=model)
        for leg in await settlement.legs(tx, settlement_id=first):
            before = await states_by_pair(tx, first)
            await settlement.book_leg(tx, leg_id=leg.id, actor="bank", now=cut_of(W47))
            after = await states_by_pair(tx, first)
            changed = {pair for pair in after if before[pair] != after[pair]}
            both = {(leg.payer, leg.payee), (leg.payee, leg.payer)} & set(after)
            if model == "MULTILATERAL_NET":
                done = (await settlement.settlement(tx, first)).state == "SETTLED"
                assert changed == (set(after) if done else set())
            else:
                assert changed == (both if model == "BILATERAL_NET" else {(leg.payer, leg.payee)})
        assert await states(tx, first) == {State.SETTLED}
        assert await states(tx, second) == {State.IN_SETTLEMENT}
        for merchant, owes in (("M04", 0), ("M05", 11)):
            cover = await settlement.cover_of(tx, merchant_id=merchant)
            assert cover
            assert (cover.reserved_fen, cover.debit_fen, cover.credit_fen) == (0, owes, 0)


async def states_by_pair(tx: AsyncConnection, settlement_id: str) -> dict[tuple[str, str], State]:
    found = await settlement.obligations(tx, settlement_id=settlement_id)
    return {(row.payer, row.payee): row.state for row in found}


async def test_an_agreement_is_told_to_its_parties(small: Database) -> None:
    async with small.transaction() as tx:
        await settlement.propose_agreement(tx, proposer="M04", **TERMS | {"redeemer": "M06"})
        said = {"version": 1, "issuer": "M04", "redeemer": "M06"}
        mine = ("agr_M04_M06", ("M04", "M06"), said)
        assert await told(tx, "agreement.proposed") == [mine]
        await settlement.sign_agreement(
            tx, agreement_id="agr_M04_M06", merchant_id="M06", now=LATER
        )
        assert await told(tx, "agreement.signed") == [mine]


async def test_what_quotes_and_holds_read_ahead_is_what_they_would_find(small: Database) -> None:
    """The room of this month's cap and cover; what an epoch has reserved, and no other."""
    async with small.transaction() as tx:
        agreement = await settlement.agreement_for(
            tx, issuer="M04", redeemer="M05", offer_id="XH-01", category="电影", at=NOW
        )
        for epoch in (1, 2):
            legs = [LegToReserve(3, agreement, "XH-01", 1_000)]
            await settlement.reserve_legs(tx, cause_id="red_9", epoch=epoch, legs=legs, at=NOW)
        await db.flush(tx)
        names = {"one": "M04", "other": "M05"}
        issuers, redeemer = (sa.bindparam("one"),), sa.bindparam("other")
        asked = settlement.ask_room(issuers, redeemer, names, at=NOW)
        room = settlement.Room(*await db.read(tx, *asked))
        left: dict[str, Any] = {"fee_fen": 0, "at": NOW}
        room.check(agreement, settlement_fen=50_000 - 1_810, **left)
        with pytest.raises(settlement.CoverExceeded):
            room.check(agreement, settlement_fen=50_001 - 1_810, **left)
        with pytest.raises(settlement.AgreementCap) as refusal:
            room.check(agreement, settlement_fen=100_000, **left)
        assert refusal.value.context["left_fen"] == 100_000 - 1_800
        (known,) = await db.read(tx, settlement.ask_reserved("red_9", 1))
        lines = await settlement.release(tx, cause_id="red_9", epoch=1, known=known)
        assert sorted(lines) == [3]
        used = await settlement.used_fen(tx, agreement_id="agr_M04_M05", month="2026-11")
        assert used == 900
        (known,) = await db.read(tx, settlement.ask_reserved("red_9", 1))
        assert await settlement.release(tx, cause_id="red_9", epoch=1, known=known) == {}
