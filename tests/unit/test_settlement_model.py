"""Rating, windows and netting: the contracts' worked examples and the demo day."""

import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ledger.model import HUB, Line
from gateway.settlement import model
from gateway.settlement.model import (
    Agreement,
    AgreementKind,
    Flow,
    LegState,
    LegTerms,
    Obligation,
    SettlementLeg,
    State,
    Type,
    net_bilateral,
    net_gross,
    net_hash,
    net_multilateral,
    net_positions,
)
from tests.support.day import CATALOG, DAY, EXPECTED, agreement_terms

WORKED = [Flow("M04", "M05", 4050), Flow("M05", "M06", 1440), Flow("M06", "M04", 1620)]
DEMO = [
    Flow(row["payer"], row["payee"], row["amount_fen"])
    for row in DAY["obligations"] + DAY["fee_obligations"]
]
PARTIES = st.sampled_from(["M01", "M02", "M03", "M04", "HUB_FEE"])
FLOWS = st.lists(
    st.tuples(PARTIES, PARTIES, st.integers(1, 10_000)).filter(lambda row: row[0] != row[1]),
    max_size=40,
).map(lambda rows: [Flow(*row) for row in rows])


def agreement(**changes) -> Agreement:
    terms = {"id": "agr_M04_M05", "version": 1, "issuer": "M04", "redeemer": "M05"}
    terms |= {"kind": AgreementKind.REDEMPTION, "settlement_bps": 9000, "fee_bps": 50}
    terms |= {"monthly_cap_fen": 1, "valid_from": date(2026, 1, 1)}
    terms |= {"valid_until": date(2026, 11, 1), "signed_at": datetime(2026, 1, 1, tzinfo=UTC)}
    return Agreement(**terms | changes)


@pytest.mark.parametrize(
    ("face", "bps", "settlement", "fee"),
    [
        (4500, 9000, 4050, 20),
        (1300, 9000, 1170, 6),
        (1600, 9000, 1440, 7),
        (12000, 9000, 10800, 54),
        (9750, 9000, 8775, 44),
        (7500, 9000, 6750, 34),
        (5, 9000, 5, 0),  # 4.5 rounds up
        (1000, 10000, 1000, 5),
    ],
)
def test_a_leg_is_rated_half_up(face, bps, settlement, fee):
    assert model.rate_leg(agreement(settlement_bps=bps), face) == LegTerms(settlement, fee)


def test_every_leg_of_the_day_is_rated_as_the_day_says():
    terms = {row["id"]: row for row in CATALOG["agreements"]}
    for redemption in DAY["redemptions"]:
        for leg in redemption["legs"]:
            if not leg["own"]:
                row = terms[leg["agreement"]]
                bps = {"settlement_bps": row["settlement_bps"], "fee_bps": row["fee_bps"]}
                assert agreement_terms(row)["agreement_id"] == leg["agreement"]
                rated = model.rate_leg(agreement(**bps), leg["face_fen"])
                assert rated == LegTerms(leg["settlement_fen"], leg["fee_fen"])


@pytest.mark.parametrize(
    ("changes", "day", "offer", "category", "covered"),
    [
        ({}, date(2026, 10, 31), "XH-01", "电影", True),
        ({}, date(2026, 11, 1), "XH-01", "电影", False),  # the first day without it
        ({}, date(2025, 12, 31), "XH-01", "电影", False),
        ({}, date(2026, 1, 1), "XH-01", "电影", True),  # its first day
        ({"signed_at": None}, date(2026, 10, 31), "XH-01", "电影", False),
        ({"categories": ("公益",)}, date(2026, 10, 31), "XH-01", "公益", True),
        ({"categories": ("公益",)}, date(2026, 10, 31), "XH-01", None, True),
        ({"offers": ("AX-01",)}, date(2026, 10, 31), None, "电影", True),
        ({"offers": ("AX-01",)}, date(2026, 10, 31), "XH-01", "电影", False),
        ({"offers": ("AX-01",)}, date(2026, 10, 31), "AX-01", "保险", True),
        ({"categories": ("公益",)}, date(2026, 10, 31), "XH-01", "电影", False),
    ],
)
def test_an_agreement_has_a_term_a_scope_and_signatures(changes, day, offer, category, covered):
    made = agreement(**changes)
    assert (made.in_force(day) and made.covers(offer, category)) is covered


@pytest.mark.parametrize(
    ("instant", "window"),
    [
        ("2026-11-13T23:59:59+08:00", "win_2026W46"),
        ("2026-11-14T00:00:00+08:00", "win_2026W47"),
        ("2026-11-20T23:59:59+08:00", "win_2026W47"),
        ("2026-11-21T00:00:00+08:00", "win_2026W48"),
        ("2026-11-20T16:00:00+00:00", "win_2026W48"),
        ("2027-01-01T12:00:00+08:00", "win_2026W53"),  # the Friday is the ISO year's last
        ("2027-01-02T00:00:00+08:00", "win_2027W01"),
    ],
)
def test_a_window_is_named_by_the_week_of_its_friday(instant, window):
    at = datetime.fromisoformat(instant)
    assert model.window_id_of(at) == window
    assert at < model.cut_of(window)


def test_a_window_is_cut_on_saturday_at_midnight_and_followed_by_the_next_week():
    cut = datetime(2026, 11, 20, 16, tzinfo=UTC)
    assert model.cut_of("win_2026W47") == cut
    assert model.window_after("win_2026W47", now=cut) == "win_2026W48"
    early, late = datetime(2026, 11, 17, tzinfo=UTC), datetime(2026, 12, 9, tzinfo=UTC)
    assert model.window_after("win_2026W47", now=early) == "win_2026W48"
    assert model.window_after("win_2026W47", now=late) == "win_2026W50"


def test_the_worked_example_nets_both_ways():
    assert net_bilateral(WORKED) == WORKED
    assert net_positions(WORKED) == {"M04": -2430, "M05": 2610, "M06": -180}
    assert net_multilateral(WORKED) == [Flow("M04", "M05", 2430), Flow("M06", "M05", 180)]


def test_the_week_of_the_worked_postings_makes_eight_payments():
    week = [Flow("M04", "M05", 4050), Flow("M04", "HUB_FEE", 20), Flow("M04", "M06", 1170)]
    week += [Flow("M04", "HUB_FEE", 6), Flow("M11", "M03", 37800), Flow("M01", "M03", 2880)]
    week += [Flow("M11", "HUB_FEE", 189), Flow("M05", "M04", 4050), Flow("M05", "M04", 20)]
    week += [Flow("M05", "M04", 450), Flow("M02", "M01", 1000), Flow("M04", "HUB_FEE", 5000)]
    week += [Flow("RECON_TOLERANCE", "M05", 1)]
    assert set(net_bilateral(week)) == {
        Flow("M11", "M03", 37800),
        Flow("M04", "HUB_FEE", 5026),
        Flow("M01", "M03", 2880),
        Flow("M04", "M06", 1170),
        Flow("M02", "M01", 1000),
        Flow("M05", "M04", 470),
        Flow("M11", "HUB_FEE", 189),
        Flow("RECON_TOLERANCE", "M05", 1),
    }
    positions = {"M01": -1880, "M02": -1000, "M03": 40680, "M04": -5726, "M05": -469}
    positions |= {"M06": 1170, "M11": -37989, "HUB_FEE": 5215, "RECON_TOLERANCE": -1}
    assert net_positions(week) == positions


def test_the_demo_day_nets_as_expected():
    assert net_positions(DEMO) == EXPECTED["net_positions_fen"]
    bilateral = {Flow(**row) for row in EXPECTED["bilateral_payments"]}
    assert set(net_bilateral(DEMO)) == bilateral
    assert net_multilateral(DEMO) == [Flow(**row) for row in EXPECTED["multilateral_payments"]]


@settings(deadline=None)
@given(FLOWS, st.randoms())
def test_netting_moves_every_position_and_ignores_the_order(flows, chance: random.Random):
    positions = {party: fen for party, fen in net_positions(flows).items() if fen}
    shuffled = chance.sample(flows, len(flows))
    for net in (net_gross, net_bilateral, net_multilateral):
        payments = net(flows)
        assert payments == net(shuffled)
        assert {party: fen for party, fen in net_positions(payments).items() if fen} == positions
        assert all(payment.fen > 0 for payment in payments)
    assert len(net_multilateral(flows)) <= max(len(positions) - 1, 0)
    pairs = Counter(frozenset((each.payer, each.payee)) for each in net_bilateral(flows))
    assert set(pairs.values()) <= {1}


def test_a_net_hash_names_ids_and_amounts_in_no_order():
    rows = [("obl_b", 2), ("obl_a", 1)]
    assert net_hash(rows) == net_hash(reversed(rows))
    assert net_hash(rows) != net_hash([("obl_b", 1), ("obl_a", 2)])
    assert net_hash([]) == net_hash([])


def test_net_and_booked_journals_bring_all_accounts_to_zero():
    sums: Counter[Line | str] = Counter()
    for line in model.position_lines(DEMO) + model.net_lines("set_1", net_positions(DEMO)):
        assert line.book == HUB
        sums[line.account] += line.amount
    assert all(fen == 0 for account, fen in sums.items() if str(account).startswith("POS:"))
    for payment in net_bilateral(DEMO):
        for line in model.booked_lines("set_1", payment):
            sums[line.account] += line.amount
    assert not any(sums.values())


def test_an_end_to_end_id_is_short_and_checked():
    made = [model.end_to_end_id("set_2026W47", seq) for seq in (1, 2)]
    assert made == ["set_2026W47-0001-" + made[0][-2:], "set_2026W47-0002-" + made[1][-2:]]
    for each in made:
        digits = "".join(str(int(char, 36)) for char in each if char.isalnum())
        assert int(digits) % 97 == 1


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"])
def test_text_that_a_spreadsheet_would_run_is_quoted(text):
    assert model.guard_formula(text) == f"'{text}"
    assert model.guard_formula(f"M05{text}") == f"M05{text}"


def test_every_day_of_a_week_is_in_the_window_of_its_friday():
    start = datetime(2026, 11, 14, 4, tzinfo=UTC)
    for days in range(7):
        assert model.window_id_of(start + timedelta(days=days)) == "win_2026W47"
    assert model.window_id_of(start + timedelta(days=7)) == "win_2026W48"


def test_claims_and_payments_move_the_same_positions():
    claim = Obligation(
        "obl_1", Type.REDEMPTION, "red_1", 1, 1, "M04", "M05", "M04", "M05", 4050,
        State.ACCRUED, datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    lines = (Line(HUB, "POS:M04", 4050), Line(HUB, "POS:M05", -4050))
    assert model.position_lines([claim]) == lines
    assert model.position_lines([Flow("M04", "M05", 4050)]) == lines
    assert model.position_lines([claim, Flow("M05", "M04", 4050)]) == ()


def test_a_booked_payment_moves_the_settlements_accounts():
    assert model.booked_lines("set_1", Flow("M04", "M05", 7)) == (
        Line(HUB, "SETL:set_1:M05", 7),
        Line(HUB, "SETL:set_1:M04", -7),
    )


def test_cover_is_reserved_and_given_back():
    taken = (Line(HUB, "RSV:M04", 4070), Line(HUB, "RSV_CONTRA", -4070))
    assert model.reserve_lines("M04", 4070) == taken
    assert model.reserve_lines("M04", -4070) == tuple(
        Line(HUB, line.account, -line.amount) for line in taken
    )
    assert model.reserve_lines("M04", 0) == ()


def test_equal_debts_are_paid_in_the_order_of_their_ids():
    flows = [Flow("M03", "M09", 5), Flow("M01", "M08", 5), Flow("M02", "M07", 5)]
    assert net_multilateral(flows) == [
        Flow("M01", "M07", 5), Flow("M02", "M08", 5), Flow("M03", "M09", 5)
    ]  # fmt: skip
    even = [Flow("M01", "M02", 5), Flow("M02", "M01", 5), Flow("M03", "M04", 1)]
    assert net_multilateral(even) == [Flow("M03", "M04", 1)]
    assert net_bilateral(even) == [Flow("M03", "M04", 1)]


def test_an_end_to_end_id_never_passes_35_characters():
    assert len(model.end_to_end_id("s" * 27, 1)) == 35
    with pytest.raises(AssertionError):
        model.end_to_end_id("s" * 28, 1)


@pytest.mark.parametrize(
    ("fen", "text"), [(0, "0.00"), (5, "0.05"), (99, "0.99"), (100, "1.00"), (123450, "1234.50")]
)
def test_fen_in_files_have_two_decimals(fen, text):
    assert model.fen_as_yuan(fen) == text


def test_a_negative_amount_is_never_written_into_a_file():
    with pytest.raises(AssertionError):
        model.fen_as_yuan(-1)


def test_the_banks_file_names_both_sides_and_guards_its_text():
    legs = [
        SettlementLeg("l2", "set_1", 2, "e2", "M02", "M01", 5, LegState.DRAFT),
        SettlementLeg("l1", "set_1", 1, "e1", "M01", "M02", 123450, LegState.DRAFT),
    ]
    accounts = {
        "M01": model.Account("云栖", "1021", "0601"),
        "M02": model.Account("=cmd", "3085", "0602"),
    }
    assert model.bank_rows(legs, accounts) == [
        [
            "end_to_end_id", "payer", "payer_name", "payer_bank_code", "payer_account", "payee",
            "payee_name", "payee_bank_code", "payee_account", "amount_yuan", "currency", "remark",
        ],
        ["e1", "M01", "云栖", "1021", "0601", "M02", "'=cmd", "3085", "0602", "1234.50", "CNY",
         "set_1"],
        ["e2", "M02", "'=cmd", "3085", "0602", "M01", "云栖", "1021", "0601", "0.05", "CNY",
         "set_1"],
    ]  # fmt: skip
