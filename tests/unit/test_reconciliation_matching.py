"""Planted faults come out under their codes, whatever the order of the rows."""

import random
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.reconciliation.matching import match
from gateway.reconciliation.model import (
    Action,
    Break,
    BreakState,
    Code,
    Rating,
    Row,
    Rules,
    age_bucket,
    flows_of,
    flows_to_theirs,
    inputs_hash,
    result_hash,
)
from gateway.settlement.model import Flow
from gateway.values import bps_half_up
from tests.support.day import CUT

DAY = date(2026, 11, 20)
RULES = Rules()


def ours_of(number: int, *, face: int = 4500, merchant: str = "M05", issuer: str = "M04") -> Row:
    settlement = bps_half_up(face, 9000)
    rating = Rating(face, 9000, bps_half_up(settlement, 50), (8000,))
    return Row(
        id=f"obl_{number:03d}",
        merchant=merchant,
        ref=f"red_{number:03d}",
        partner_ref=f"bk_{number:03d}",
        type="REDEMPTION",
        issuer=issuer,
        amount_fen=settlement,
        business_date=DAY,
        offer_id="XH-01",
        rating=rating,
    )


def theirs_of(row: Row, **changes) -> Row:
    return replace(row, id=f"{row.merchant}:1:{row.id}", rating=None, **changes)


FROM_SAGAS = {
    *(Code.LATE_HOLD, Code.LATE_CONFIRM_CANCELLED, Code.LATE_CONFIRM_UNCOVERED),
    *(Code.FENCE_VIOLATED, Code.FULFIL_MISSING),
}
OF_ROWS = [code for code in Code if code not in FROM_SAGAS]


def plant(code: Code | None, mine: Row) -> tuple[list[Row], list[Row]]:
    """One pair of rows, or what a fault makes of it."""
    other, fen = theirs_of(mine), mine.amount_fen
    assert mine.rating
    reversal = replace(mine, id=f"{mine.id}r", type="REVERSAL", amount_fen=-fen, rating=None)
    return {
        None: ([mine], [other]),
        Code.MISSING_PARTNER: ([mine], []),
        Code.MISSING_US: ([], [other]),
        Code.AMOUNT_DIFF: ([mine], [replace(other, amount_fen=fen + 7)]),
        Code.FEE_DIFF: ([mine], [replace(other, amount_fen=fen - mine.rating.fee_fen)]),
        Code.RATE_VERSION: (
            [mine],
            [replace(other, amount_fen=bps_half_up(mine.rating.face_fen, 8000))],
        ),
        Code.ROUNDING: ([mine], [replace(other, amount_fen=fen + 1)]),
        Code.STATUS_DIFF: ([mine, reversal], [other]),
        Code.DUPLICATE_PARTNER: ([mine], [other, replace(other, id=f"{other.id}b")]),
        Code.DUPLICATE_US: ([mine, replace(mine, id=f"{mine.id}b")], [other]),
        Code.CUTOFF: ([mine], [replace(other, business_date=DAY + timedelta(days=1))]),
        Code.UNIT_DIFF: ([mine], [replace(other, amount_fen=fen * 100)]),
        Code.PARTY_DIFF: ([mine], [replace(other, issuer="M99")]),
    }[code]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.one_of(st.none(), st.sampled_from(OF_ROWS)), st.integers(1, 60))),
    st.randoms(use_true_random=False),
)
def test_k_planted_faults_give_exactly_those_k_codes(plan, chance: random.Random):
    ours, theirs = [], []
    for number, (code, price) in enumerate(plan):
        some_ours, some_theirs = plant(code, ours_of(number, face=price * 1000))
        ours += some_ours
        theirs += some_theirs
    outcome = match(ours, theirs, day=DAY, rules=RULES)

    planted = Counter(code for code, _ in plan if code)
    assert Counter(found.code for found in outcome.breaks) == planted
    assert not outcome.expected
    explained = sum(found.ours_fen - found.theirs_fen for found in outcome.breaks)
    assert explained == sum(r.amount_fen for r in ours) - sum(r.amount_fen for r in theirs)

    shuffled = [chance.sample(side, len(side)) for side in (ours, theirs)]
    again = match(*shuffled, day=DAY, rules=RULES)
    inputs = inputs_hash(ours, theirs, RULES)
    assert inputs == inputs_hash(*shuffled, RULES)
    assert result_hash(inputs, outcome) == result_hash(inputs, again)


@settings(deadline=None)
@given(st.lists(st.sampled_from([None, *OF_ROWS]), max_size=20))
def test_every_row_is_consumed_once(codes):
    planted = [plant(code, ours_of(number)) for number, code in enumerate(codes)]
    ours = [row for some, _ in planted for row in some]
    theirs = [row for _, some in planted for row in some]
    outcome = match(ours, theirs, day=DAY, rules=RULES)
    used = Counter(row.id for found in outcome.breaks for row in found.rows)
    for pair in outcome.matches:
        used.update((pair.ours, pair.theirs))
    assert used == Counter(row.id for row in ours + theirs)


def the_break(ours: list[Row], theirs: list[Row], **more):
    (found,) = match(ours, theirs, day=DAY, rules=RULES, **more).breaks
    return found


@pytest.mark.parametrize(
    ("theirs_fen", "code", "amount", "words"),
    [
        (4140, "AMOUNT_DIFF", 90, "差额 0.90 元 = (46.00 − 45.00) × 90 %,疑似票价录成 46.00"),
        (3960, "AMOUNT_DIFF", 90, "差额 0.90 元 = (45.00 − 44.00) × 90 %,疑似票价录成 44.00"),
        (4500, "AMOUNT_DIFF", 450, "45.00 为票面价,疑似未按 90 % 结算"),
        (8100, "AMOUNT_DIFF", 4050, "对方金额为我方的 2 倍,疑似数量录错"),
        (-4050, "AMOUNT_DIFF", 8100, "差额 81.00 元 = 2 × 40.50,疑似正负号相反"),
        (5040, "AMOUNT_DIFF", 990, "差额 9.90 元 = (56.00 − 45.00) × 90 %,疑似票价录成 56.00"),
        (5400, "AMOUNT_DIFF", 1350, "差额 13.50 元 = (60.00 − 45.00) × 90 %,疑似票价录成 60.00"),
        (4005, "AMOUNT_DIFF", 45, "差额 0.45 元 = (45.00 − 44.50) × 90 %,疑似票价录成 44.50"),
        (4057, "AMOUNT_DIFF", 7, "差额 0.07 元,原因待查"),
        (4049, "ROUNDING", 1, "差 1 分,疑似舍入方式不同"),
        (4070, "FEE_DIFF", 20, "差额 0.20 元等于服务费,疑似服务费计入结算额"),
        (3600, "RATE_VERSION", 450, "36.00 = 45.00 × 80 %,疑似按旧协议结算,现行为 90 %"),
        (405000, "UNIT_DIFF", 400950, "4050.00 与 40.50 恰为 100 倍,疑似分与元混用"),
    ],
)
def test_a_difference_is_explained_by_its_numbers(theirs_fen, code, amount, words):
    mine = ours_of(1)
    found = the_break([mine], [theirs_of(mine, amount_fen=theirs_fen)])
    assert (found.code, found.amount_fen, found.field) == (code, amount, "amount_fen")
    assert found.hypothesis.zh == words
    assert found.hypothesis.en


def test_a_reversal_without_its_original_is_missing_with_us():
    row = theirs_of(ours_of(1), type="REVERSAL", amount_fen=-4050)
    found = the_break([], [row])
    assert (found.code, found.amount_fen) == (Code.MISSING_US, 4050)
    mine = ours_of(1)
    assert the_break([mine], [theirs_of(mine), replace(row, id="x")]).code is Code.STATUS_DIFF


def test_the_partners_reference_matches_where_ours_is_lost():
    mine = ours_of(1)
    outcome = match([mine], [theirs_of(mine, ref=None)], day=DAY, rules=RULES)
    assert [pair.made_by for pair in outcome.matches] == ["P2"]


def test_circumstances_match_only_what_is_unique():
    one, two = ours_of(1), ours_of(2)
    nameless = [theirs_of(row, ref=None, partner_ref=f"?{row.id}") for row in (one, two)]
    outcome = match([one], nameless[:1], day=DAY, rules=RULES)
    assert [pair.made_by for pair in outcome.matches] == ["P3"]
    outcome = match([one, two], nameless, day=DAY, rules=RULES)
    assert not outcome.matches
    codes = Counter(found.code for found in outcome.breaks)
    assert codes == {Code.MISSING_PARTNER: 2, Code.MISSING_US: 2}
    named = theirs_of(two, ref="red_999")
    codes = Counter(found.code for found in match([one], [named], day=DAY, rules=RULES).breaks)
    assert codes == {Code.MISSING_PARTNER: 1, Code.MISSING_US: 1}


def test_what_is_not_due_yet_is_expected():
    rules = Rules(lag_days={"M05": 1})
    mine = ours_of(1)
    assert match([mine], [], day=DAY, rules=rules).expected == (mine,)
    (found,) = match([mine], [], day=DAY + timedelta(days=1), rules=rules).breaks
    assert found.code is Code.MISSING_PARTNER


def test_a_row_of_another_day_is_cut_off_and_of_a_settled_day_a_double():
    mine = ours_of(1)
    earlier = replace(mine, business_date=DAY - timedelta(days=7))
    other = theirs_of(mine)
    assert the_break([], [other], ours_elsewhere=[earlier]).code is Code.CUTOFF
    done = frozenset({earlier.id})
    again = the_break([], [other], ours_elsewhere=[earlier], matched_elsewhere=done)
    assert again.code is Code.DUPLICATE_PARTNER
    assert the_break([mine], [], theirs_elsewhere=[other]).code is Code.CUTOFF


def test_a_decision_moves_what_it_says():
    mine = ours_of(1)

    def opened(other: list[Row]) -> Break:
        finding = the_break([mine], other)
        values = {"id": "brk_1", "run_id": "run_1", "key": "k", "code": finding.code}
        values |= {"merchant": "M05", "issuer": "M04", "ref": "red_001", "field": None}
        values |= {"ours_ids": (), "theirs_ids": (), "hypothesis_zh": "", "hypothesis_en": ""}
        values |= {"ours_fen": finding.ours_fen, "theirs_fen": finding.theirs_fen}
        values |= {"amount_fen": finding.amount_fen, "flows": flows_to_theirs(finding)}
        return Break(**values, state=BreakState.OPEN, opened_at=CUT, due_at=CUT)

    more = opened([theirs_of(mine, amount_fen=4140)])
    assert flows_of(Action.ACCEPT_THEIRS, more) == (Flow("M04", "M05", 90),)
    assert flows_of(Action.WRITE_OFF, more) == (Flow("RECON_TOLERANCE", "M05", 90),)
    assert flows_of(Action.ACCEPT_OURS, more) == ()
    none = opened([])
    assert flows_of(Action.ACCEPT_THEIRS, none) == (Flow("M05", "M04", 4050),)
    late = opened([theirs_of(mine, business_date=DAY + timedelta(days=1))])
    assert flows_of(Action.ACCEPT_THEIRS, late) == ()
    assert flows_of(Action.WRITE_OFF, late) == ()
    wrong = opened([theirs_of(mine, issuer="M02")])
    both = (Flow("M05", "M04", 4050), Flow("M02", "M05", 4050))
    assert flows_of(Action.ACCEPT_THEIRS, wrong) == both


@pytest.mark.parametrize(
    ("days", "bucket"),
    [(0, "0-1"), (1, "0-1"), (2, "2-3"), (7, "4-7"), (8, "8-30"), (90, "31-90"), (91, ">90")],
)
def test_breaks_age_in_buckets(days, bucket):
    assert age_bucket(DAY, DAY + timedelta(days=days)) == bucket
