"""The demo day from reservation to payment, on both databases."""

import asyncio
import csv
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest

from gateway.compliance.model import FourEyesRequired
from gateway.db import Database
from gateway.errors import NotFound, Refused
from gateway.ledger import service as ledger
from gateway.ledger.model import Kind
from gateway.ports import NoticeReceipt
from gateway.settlement import service as settlement
from gateway.settlement.invariants import check
from gateway.settlement.model import Flow, State, Type
from tests.support import day
from tests.support.day import CUT, EXPECTED

MONDAY = datetime(2026, 11, 23, 2, tzinfo=UTC)
FINANCE = {"actor": "usr_fang", "now": MONDAY}
W47 = "win_2026W47"


@pytest.fixture
async def coalition(database: Database) -> Database:
    async with database.transaction() as tx:
        await day.seed(tx)
    return database


@pytest.fixture
async def played(coalition: Database) -> Database:
    await day.play(coalition)
    async with coalition.transaction() as tx:
        await settlement.close_window(tx, window_id=W47, now=CUT)
    async with coalition.transaction() as tx:
        await settlement.net_window(tx, window_id=W47, now=CUT)
        await settlement.publish_window(tx, window_id=W47, now=CUT)
    return coalition


async def all_hold(database: Database) -> None:
    async with database.reading() as tx:
        results = await check(tx)
    assert [result.id for result in results] == ["W1", "W2", "W3", "W4", "W5", "W6", "W7"]
    assert [result for result in results if not result.ok] == []


async def test_the_day_makes_its_obligations_in_its_window(played: Database) -> None:
    async with played.reading() as tx:
        rows = await settlement.obligations(tx, day=date(2026, 11, 20))
        population = await settlement.statement_rows(tx, merchant=None, day=date(2026, 11, 20))
        used = await settlement.used_fen(tx, agreement_id="agr_M03_M05", month="2026-11")
        positions = await settlement.positions(tx, window_id=W47)
        ask = {"window_id": W47}
        bilateral = await settlement.payments(tx, **ask)
        multilateral = await settlement.payments(tx, model="MULTILATERAL_NET", **ask)
    assert {row.window_id for row in rows} == {W47}
    assert len(population) == 18
    assert sum(row.statement_fen for row in population) == 45711
    claims = Counter((r.cause_id, r.type, r.payer, r.payee, r.amount_fen) for r in rows)
    wanted = day.DAY["obligations"] + day.DAY["fee_obligations"]
    assert claims == Counter(
        (r["redemption"], r["type"], r["payer"], r["payee"], r["amount_fen"]) for r in wanted
    )
    fees = Counter[str]()
    for row in rows:
        fees["in"] += row.amount_fen * (row.payee == "HUB_FEE")
        fees["out"] += row.amount_fen * (row.payer == "HUB_FEE")
    assert fees["in"] - fees["out"] == EXPECTED["fees_total_fen"]
    assert used == EXPECTED["agreement_used_fen_after"]["agr_M03_M05"]["2026-11"]
    assert positions == EXPECTED["net_positions_fen"]
    assert set(bilateral) == {Flow(**row) for row in EXPECTED["bilateral_payments"]}
    assert multilateral == [Flow(**row) for row in EXPECTED["multilateral_payments"]]
    await all_hold(played)


async def test_the_ledger_and_the_obligations_say_the_same(played: Database) -> None:
    async with played.reading() as tx:
        wanted = EXPECTED["net_positions_fen"]
        found = await ledger.balances(tx, "HUB", [f"POS:{party}" for party in wanted])
        assert {account[4:]: -fen for account, fen in found.items()} == wanted
        assert await ledger.balance(tx, "HUB", "RSV:M04") == 0
        cover = await settlement.cover_of(tx, merchant_id="M04")
    assert cover
    assert cover.reserved_fen == 0
    assert cover.debit_fen - cover.credit_fen == 6531


def names_the_accounts(lines: list[str]) -> None:
    banks = {row["id"]: row["settlement_account"] for row in day.CATALOG["merchants"]}
    for row in csv.DictReader(lines):
        for side in {"payer", "payee"} - {side for side in row if row[side] == "HUB_FEE"}:
            at_bank = banks[row[side]]
            assert row[f"{side}_bank_code"] == at_bank["bank_code"]
            assert row[f"{side}_account"].lstrip("'") == at_bank["number"]


async def test_two_people_settle_the_window_and_every_account_ends_at_zero(
    played: Database,
) -> None:
    async with played.transaction() as tx:
        draft = await settlement.propose_settlement(tx, window_id=W47, **FINANCE)
        again = await settlement.propose_settlement(
            tx, window_id=W47, actor="usr_other", now=MONDAY
        )
    assert again == draft
    ask = {"settlement_id": draft.id, "net_hash": draft.net_hash, "limit_fen": 10**7, "now": MONDAY}
    async with played.transaction() as tx:
        with pytest.raises(FourEyesRequired):
            await settlement.approve_settlement(tx, actor="usr_fang", **ask)
        with pytest.raises(FourEyesRequired) as low:
            await settlement.approve_settlement(tx, actor="usr_gao", **ask | {"limit_fen": 1})
        with pytest.raises(settlement.StaleNetHash):
            await settlement.approve_settlement(tx, actor="usr_gao", **ask | {"net_hash": "0"})
        assert low.value.context == {"amount_fen": draft.total_fen, "limit_fen": 1}
        approved = await settlement.approve_settlement(tx, actor="usr_gao", **ask)
        with pytest.raises(settlement.WindowNotOpen):
            await settlement.approve_settlement(tx, actor="usr_gao", **ask)
    assert approved.approved_by == "usr_gao"
    await all_hold(played)

    async with played.reading() as tx:
        legs = await settlement.legs(tx, settlement_id=draft.id)
        assert [leg.amount_fen for leg in await settlement.legs(tx, merchant="M12")] == [10800]
        text = await settlement.bank_csv(tx, draft.id)
    assert {(leg.payer, leg.payee, leg.amount_fen) for leg in legs} == {
        (row["payer"], row["payee"], row["fen"]) for row in EXPECTED["bilateral_payments"]
    }
    lines = text.splitlines()
    assert len(lines) == 19
    assert any(",M03," in line and ",M12," in line and ",108.00,CNY," in line for line in lines)
    names_the_accounts(lines)

    for leg in legs:
        debtor, creditor = leg.parties
        for side in {debtor.merchant_id, creditor.merchant_id}:
            async with played.transaction() as tx:
                notice = await settlement.notice(tx, leg.id)
                assert (notice.payer, notice.amount_fen) == (leg.payer, leg.amount_fen)
                receipt = NoticeReceipt(f"rcp_{side}", MONDAY)
                await settlement.record_notice(
                    tx, leg_id=leg.id, merchant=side, receipt=receipt, at=MONDAY
                )
                answer = {"client_id": side, "signature": "e30..c2ln", "now": MONDAY}
                done = await settlement.acknowledge_leg(tx, leg_id=leg.id, merchant=side, **answer)
                assert {p.ack_client_id for p in done.parties if p.merchant_id == side} == {side}
    async with played.reading() as tx:
        assert (await settlement.settlement(tx, draft.id)).state == "SETTLED"
        assert (await settlement.window(tx, W47)).state == "SETTLED"
        rows = await settlement.obligations(tx, settlement_id=draft.id)
        assert {row.state for row in rows} == {State.SETTLED}
        cover = await settlement.cover_of(tx, merchant_id="M04")
    assert cover
    assert (cover.debit_fen, cover.credit_fen) == (0, 0)
    await all_hold(played)


async def test_only_its_parties_may_answer_for_a_leg(played: Database) -> None:
    async with played.transaction() as tx:
        draft = await settlement.propose_settlement(tx, window_id=W47, **FINANCE)
        (leg, *_) = await settlement.legs(tx, settlement_id=draft.id)
        answer = {"leg_id": leg.id, "client_id": "c", "signature": "s", "now": MONDAY}
        with pytest.raises(NotFound):
            await settlement.acknowledge_leg(tx, merchant=leg.payer, **answer)  # a draft
        ask = {"settlement_id": draft.id, "net_hash": draft.net_hash, "limit_fen": 10**7}
        await settlement.approve_settlement(tx, actor="usr_gao", now=MONDAY, **ask)
        with pytest.raises(NotFound):
            await settlement.acknowledge_leg(tx, merchant="M09", **answer)
        sent = await settlement.acknowledge_leg(tx, merchant=leg.payer, **answer)
        assert sent.state == ("BOOKED" if leg.payee == "HUB_FEE" and leg.payer == "M01" else "SENT")


async def test_a_reversal_after_the_cut_goes_to_the_next_window(played: Database) -> None:
    at = CUT + timedelta(hours=9)
    async with played.transaction() as tx:
        ask = {"cause_id": "red_D01", "epoch": 1, "fault": "REDEEMER", "at": at}
        lines = await settlement.reverse(tx, **ask)
        await day.post(tx, "red_D01", Kind.REVERSE, lines, at)
        assert {line.account: line.amount for line in lines[1]} == {
            "POS:M05": 4070,
            "POS:M04": -4070,
        }
        assert await settlement.reverse(tx, **ask) == {}
        owed = await settlement.compensate(
            tx, cause_id="red_D01", epoch=1, leg_no=1, issuer="M04", redeemer="M05", fen=450, at=at
        )
        await day.post(tx, "red_D01", Kind.COMPENSATE, {1: owed}, at)
        rows = await settlement.obligations(tx, cause_id="red_D01", window_id="win_2026W48")
        used = await settlement.used_fen(tx, agreement_id="agr_M04_M05", month="2026-11")
    assert Counter((row.type, row.payer, row.payee, row.amount_fen) for row in rows) == Counter(
        {
            (Type.REVERSAL, "M05", "M04", 4050): 1,
            (Type.ADJUSTMENT, "M05", "M04", 20): 1,
            (Type.COMPENSATION, "M05", "M04", 450): 1,
        }
    )
    assert used == 0
    await all_hold(played)


async def test_a_lower_final_fare_reverses_the_difference(coalition: Database) -> None:
    ride = {"id": "red_ride", "redeemer": "M07", "offer": "KX-03"}
    ride["legs"] = [
        {"issuer": "M04", "face_fen": 12000, "own": False, "agreement": "agr_M04_M07"},
        {"issuer": "M07", "face_fen": 4000, "own": True},
    ]
    at = CUT - timedelta(days=1)
    async with coalition.transaction() as tx:
        await day.hold(tx, ride, at)
        await day.commit(tx, "red_ride", at)
        ask = {"cause_id": "red_ride", "epoch": 1, "at": at}
        lines = await settlement.adjust(tx, kept_face={1: 9750, 2: 0}, **ask)
        await day.post(tx, "red_ride", Kind.FARE_ADJUST, lines, at)
        assert {line.account: line.amount for line in lines[1]} == {
            "POS:M07": 2025,
            "POS:HUB_FEE": 10,
            "POS:M04": -2035,
        }
        assert await settlement.adjust(tx, kept_face={1: 9750}, **ask) == {}
        moved = await settlement.clear(tx, cause_id="red_ride", at=at)
        assert len(moved) == 4
        assert await settlement.clear(tx, cause_id="red_ride", at=at) == []
        used = await settlement.used_fen(tx, agreement_id="agr_M04_M07", month="2026-11")
        assert used == 8775
        rows = await settlement.statement_rows(tx, merchant="M07", day=date(2026, 11, 20))
        assert sorted(row.statement_fen for row in rows) == [-2025, 10800]
    await all_hold(coalition)
    async with coalition.transaction() as tx:  # cancelled after all: only what is left comes back
        lines = await settlement.reverse(tx, cause_id="red_ride", epoch=1, fault="MEMBER", at=at)
        await day.post(tx, "red_ride", Kind.REVERSE, lines, at)
        assert await settlement.used_fen(tx, agreement_id="agr_M04_M07", month="2026-11") == 0
    await all_hold(coalition)


async def test_what_is_released_gives_cap_and_cover_back(coalition: Database) -> None:
    redemption = day.DAY["redemptions"][0]
    at = datetime.fromisoformat(redemption["committed_at"])
    ask = {"cause_id": redemption["id"], "epoch": 1}
    async with coalition.transaction() as tx:
        await day.hold(tx, redemption, at)
        assert await ledger.balance(tx, "HUB", "RSV:M04") == 4070
        lines = await settlement.release(tx, **ask)
        await day.post(tx, redemption["id"], Kind.RELEASE, lines, at)
        assert await settlement.release(tx, **ask) == {}
        assert await settlement.accrue(tx, at=at, **ask) == {}
        assert await settlement.used_fen(tx, agreement_id="agr_M04_M05", month="2026-11") == 0
        cover = await settlement.cover_of(tx, merchant_id="M04")
    assert cover
    assert cover.reserved_fen == 0
    await all_hold(coalition)


async def test_a_cap_refuses_with_what_is_left_and_when_it_renews(played: Database) -> None:
    at = CUT + timedelta(hours=11)
    async with played.transaction() as tx:
        agreement = await settlement.agreement_for(
            tx, issuer="M03", redeemer="M05", offer_id="XH-02", category="电影", at=at
        )
        with pytest.raises(settlement.AgreementCap) as quoted:
            await settlement.check_room(
                tx, agreement=agreement, settlement_fen=14400, fee_fen=72, at=at
            )
        leg = {"cause_id": "red_x", "epoch": 1, "leg_no": 1, "agreement": agreement, "at": at}
        with pytest.raises(settlement.AgreementCap) as reserved:
            await settlement.reserve(tx, offer_id="XH-02", face_fen=16000, **leg)
        await settlement.check_room(
            tx, agreement=agreement, settlement_fen=13000, fee_fen=65, at=at
        )
    assert quoted.value.context == reserved.value.context
    assert quoted.value.context == {
        "agreement": "agr_M03_M05",
        "cap_fen": 5000000,
        "left_fen": 13000,
        "renews_on": "2026-12-01",
    }


async def test_cover_is_the_lower_limit_and_refuses_one_fen_more(coalition: Database) -> None:
    at = CUT
    async with coalition.transaction() as tx:
        limits = {"collateral_fen": 4070, "net_debit_cap_fen": 10**9}
        await settlement.set_cover(tx, merchant_id="M04", **limits)
        agreement = await settlement.agreement_for(
            tx, issuer="M04", redeemer="M05", offer_id="XH-01", category="电影", at=at
        )
        leg = {"epoch": 1, "leg_no": 1, "agreement": agreement, "offer_id": "XH-01", "at": at}
        await settlement.reserve(tx, cause_id="red_1", face_fen=4500, **leg)
        with pytest.raises(settlement.CoverExceeded) as error:
            await settlement.reserve(tx, cause_id="red_2", face_fen=1, **leg)
    assert error.value.context == {"issuer": "M04"}


async def test_an_ended_agreement_is_named_with_its_last_day(coalition: Database) -> None:
    async with coalition.reading() as tx:
        ask = {"issuer": "M04", "offer_id": "MX-01", "category": "图书", "at": CUT}
        with pytest.raises(settlement.NoAgreement) as ended:
            await settlement.agreement_for(tx, redeemer="M08", **ask)
        with pytest.raises(settlement.NoAgreement) as never:
            await settlement.agreement_for(tx, redeemer="M15", **ask)
        between = await settlement.agreements_between(
            tx, issuers=["M04"], redeemers=["M05", "M06", "M08"], at=CUT
        )
    assert ended.value.context == {"issuer": "M04", "redeemer": "M08", "ended_on": "2026-11-01"}
    assert never.value.context["ended_on"] is None
    assert [each.redeemer for each in between] == ["M05", "M06"]


async def test_an_agreement_is_in_force_when_both_have_signed(coalition: Database) -> None:
    terms = {"issuer": "M04", "redeemer": "M15", "settlement_bps": 9000, "fee_bps": 50}
    terms |= {"monthly_cap_fen": 10**6, "now": CUT}
    terms |= {"valid_from": date(2026, 11, 21), "valid_until": date(2028, 1, 1)}
    ask = {"issuer": "M04", "redeemer": "M15", "offer_id": "x", "category": "餐饮", "at": CUT}
    async with coalition.transaction() as tx:
        with pytest.raises(NotFound):
            await settlement.propose_agreement(tx, proposer="M05", **terms)
        made = await settlement.propose_agreement(tx, proposer="M15", **terms)
        with pytest.raises(settlement.NoAgreement):
            await settlement.agreement_for(tx, **ask)
        sign = {"agreement_id": made.id, "now": CUT}
        with pytest.raises(NotFound):
            await settlement.sign_agreement(tx, merchant_id="M05", **sign)
        await settlement.sign_agreement(tx, merchant_id="M04", **sign)
        assert (await settlement.agreement_for(tx, **ask)).signed_by == ("M04", "M15")
        newer = await settlement.propose_agreement(
            tx, proposer="M04", **terms | {"settlement_bps": 8500}
        )
        assert newer.version == 2
        assert (await settlement.agreement_for(tx, **ask)).settlement_bps == 9000
        await settlement.sign_agreement(tx, merchant_id="M15", **sign)
        assert (await settlement.agreement_for(tx, **ask)).settlement_bps == 8500


async def test_a_hold_of_last_month_counts_in_the_month_of_its_commitment(
    coalition: Database,
) -> None:
    redemption = day.DAY["redemptions"][0]
    at = datetime.fromisoformat("2026-11-30T23:59:00+08:00")
    async with coalition.transaction() as tx:
        await day.hold(tx, redemption, at)
        await day.commit(tx, redemption["id"], at + timedelta(minutes=2))
        used = {
            month: await settlement.used_fen(tx, agreement_id="agr_M04_M05", month=month)
            for month in ("2026-11", "2026-12")
        }
    assert used == {"2026-11": 0, "2026-12": 4050}


async def test_a_donation_of_anothers_points_is_owed_to_the_operator(coalition: Database) -> None:
    at = CUT - timedelta(hours=1)
    async with coalition.transaction() as tx:
        agreement = await settlement.agreement_for(
            tx,
            issuer="M02",
            redeemer="M16",
            offer_id="XX-01",
            category="公益",
            kind="donation",
            at=at,
        )
        lines = await settlement.owe_goods(
            tx,
            donation_id="don_1",
            issuer="M02",
            payee=agreement.creditor,
            fen=1000,
            agreement=agreement,
            at=at,
        )
        await day.post(tx, "don_1", Kind.DONATE, {1: lines}, at)
        assert {line.account: line.amount for line in lines} == {"POS:M02": 1000, "POS:M01": -1000}
        (row,) = await settlement.obligations(tx, cause_id="don_1")
        assert (row.type, row.state, row.window_id) == (Type.DONATION_GOODS, State.IN_WINDOW, W47)
        assert await settlement.used_fen(tx, agreement_id="agr_M02_M16", month="2026-11") == 1000
    await all_hold(coalition)
    async with coalition.transaction() as tx:
        back = await settlement.reverse(tx, cause_id="don_1", epoch=1, fault="GATEWAY", at=at)
        await day.post(tx, "don_1", Kind.REVERSE, back, at)
        assert await settlement.used_fen(tx, agreement_id="agr_M02_M16", month="2026-11") == 0
        assert await settlement.statement_rows(tx, merchant=None) == []
    await all_hold(coalition)


async def test_an_empty_window_closes_and_is_settled_without_payments(coalition: Database) -> None:
    async with coalition.transaction() as tx:
        assert await settlement.close_due_window(tx, now=CUT - timedelta(seconds=1)) is None
        closed = await settlement.close_due_window(tx, now=CUT)
        assert closed
        assert closed.id == W47
        with pytest.raises(settlement.WindowNotOpen) as error:
            await settlement.close_window(tx, window_id=W47, now=CUT)
        told = {"window": W47, "state": "CLOSED", "needed": ["OPEN"]}
        assert error.value.context == told
        await settlement.net_window(tx, window_id=W47, now=CUT)
        await settlement.publish_window(tx, window_id=W47, now=CUT)
        draft = await settlement.propose_settlement(tx, window_id=W47, **FINANCE)
        ask = {"settlement_id": draft.id, "net_hash": draft.net_hash, "limit_fen": 0}
        done = await settlement.approve_settlement(tx, actor="usr_gao", now=MONDAY, **ask)
        assert done.state == "SETTLED"
        assert [each.id for each in await settlement.windows(tx)] == [W47, "win_2026W48"]
    await all_hold(coalition)


@pytest.mark.parametrize("model", ["GROSS", "MULTILATERAL_NET"])
async def test_other_models_of_netting_settle_to_zero_too(played: Database, model: str) -> None:
    async with played.transaction() as tx:
        draft = await settlement.propose_settlement(tx, window_id=W47, model=model, **FINANCE)
        ask = {"settlement_id": draft.id, "net_hash": draft.net_hash, "limit_fen": 10**7}
        await settlement.approve_settlement(tx, actor="usr_gao", now=MONDAY, **ask)
        *most, last = await settlement.legs(tx, settlement_id=draft.id)
        for leg in most:
            await settlement.book_leg(tx, leg_id=leg.id, actor="usr_gao", now=MONDAY)
        assert (await settlement.settlement(tx, draft.id)).state == "PARTIAL"
    await all_hold(played)
    async with played.transaction() as tx:
        for _ in range(2):
            await settlement.book_leg(tx, leg_id=last.id, actor="usr_gao", now=MONDAY)
        assert (await settlement.settlement(tx, draft.id)).state == "SETTLED"
        rows = await settlement.obligations(tx, window_id=W47)
        assert {row.state for row in rows} == {State.SETTLED}
    await all_hold(played)


async def test_a_draft_of_another_model_supersedes(played: Database) -> None:
    async with played.transaction() as tx:
        draft = await settlement.propose_settlement(tx, window_id=W47, **FINANCE)
        other = await settlement.propose_settlement(
            tx, window_id=W47, model="MULTILATERAL_NET", **FINANCE
        )
        assert (draft.id, other.id) == ("set_2026W47", "set_2026W47.2")
        states = [each.state for each in await settlement.settlements(tx, window_id=W47)]
        assert states == ["SUPERSEDED", "DRAFT"]
        ask = {"settlement_id": draft.id, "net_hash": draft.net_hash, "limit_fen": 10**7}
        with pytest.raises(settlement.WindowNotOpen):
            await settlement.approve_settlement(tx, actor="usr_gao", now=MONDAY, **ask)
    await all_hold(played)


async def test_racing_holds_never_exceed_cover_or_cap(coalition: Database) -> None:
    async with coalition.transaction() as tx:
        limits = {"collateral_fen": 3 * 4070, "net_debit_cap_fen": 10**9}
        await settlement.set_cover(tx, merchant_id="M04", **limits)
        agreements = {
            issuer: await settlement.agreement_for(
                tx, issuer=issuer, redeemer="M05", offer_id="XH-01", category="电影", at=CUT
            )
            for issuer in ("M04", "M03")
        }  # M03 has 17,050 fen left of its month before the day: four tickets

    async def hold(number: int, issuer: str) -> str:
        leg = {"epoch": 1, "leg_no": 1, "agreement": agreements[issuer], "offer_id": "XH-01"}
        try:
            async with coalition.transaction() as tx:
                await settlement.reserve(
                    tx, cause_id=f"red_{issuer}_{number}", face_fen=4500, at=CUT, **leg
                )
        except Refused as refusal:
            return refusal.code
        return issuer

    ends = Counter(
        await asyncio.gather(*(hold(n, issuer) for n in range(6) for issuer in agreements))
    )
    assert ends == {"M04": 3, "COVER_EXCEEDED": 3, "M03": 4, "AGREEMENT_CAP": 2}
    async with coalition.reading() as tx:
        assert await settlement.used_fen(tx, agreement_id="agr_M04_M05", month="2026-11") == 12150
