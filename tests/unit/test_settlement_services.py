"""What the settlement services compute between reading and writing."""

from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.settlement import agreements, legs, windows
from gateway.settlement.agreements import (
    AgreementCap,
    CoverExceeded,
    NoAgreement,
    Room,
    agreement_in_force,
    cap_refusal,
)
from gateway.settlement.claims import reserved_lines
from gateway.settlement.model import (
    Agreement,
    AgreementKind,
    Cover,
    Flow,
    LegState,
    Netting,
    Reserved,
    Settlement,
    SettlementLeg,
    SettlementState,
    Window,
    WindowState,
    end_to_end_id,
    reserve_lines,
)
from gateway.values import InvalidInput

NOON = datetime(2026, 11, 20, 4, tzinfo=UTC)
AGREEMENT = Agreement(
    "agr_M04_M05", 1, "M04", "M05", AgreementKind.REDEMPTION, 9_000, 50, 1_000,
    date(2026, 1, 1), date(2027, 1, 1), signed_by=("M04", "M05"), signed_at=NOON,
)  # fmt: skip
COVER = Cover("M04", 2_000, 3_000, 100, 300, 50)
LEG = SettlementLeg("ins_1", "set_1", 1, "E2E", "M04", "M05", 700, LegState.APPROVED)
OF_PAIR: dict[str, Any] = {"issuer": "M04", "redeemer": "M05", "at": NOON}
ANY: dict[str, Any] = OF_PAIR | {"offer_id": "XH-01", "category": "电影"}


def mapped(values: dict[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(**values, _mapping=values)


def row(agreement: Agreement) -> SimpleNamespace:
    values = asdict(agreement) | {"proposed_at": NOON, "agreement_id": agreement.id}
    del values["id"]
    return mapped(values)


def in_force(*found: Agreement, **asked: Any) -> Agreement:
    return agreement_in_force([row(each) for each in found], **ANY | asked)


def test_the_newest_version_in_force_counts() -> None:
    newer = replace(AGREEMENT, version=3)
    assert in_force(newer, replace(AGREEMENT, version=2), AGREEMENT) == newer
    unsigned = replace(AGREEMENT, version=4, signed_at=None)
    tomorrow = replace(AGREEMENT, version=5, valid_from=date(2026, 11, 21))
    assert in_force(newer, unsigned, tomorrow) == newer
    assert in_force(replace(AGREEMENT, id="agr_A"), AGREEMENT) == AGREEMENT


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "M06"},
        {"redeemer": "M06"},
        {"kind": AgreementKind.DONATION},
        {"offers": ("XH-02",)},
        {"categories": ("演出",)},
    ],
)
def test_an_agreement_about_something_else_does_not_count(changes: dict[str, Any]) -> None:
    other = replace(AGREEMENT, version=9, **changes)
    assert in_force(other, AGREEMENT) == AGREEMENT
    with pytest.raises(NoAgreement) as refusal:
        in_force(other)
    assert refusal.value.context == {"issuer": "M04", "redeemer": "M05", "ended_on": None}


def test_the_last_end_is_said() -> None:
    ended = [replace(AGREEMENT, valid_until=date(2026, month, 20)) for month in (9, 11, 10)]
    to_come = replace(AGREEMENT, valid_from=date(2026, 12, 1))
    with pytest.raises(NoAgreement) as refusal:
        in_force(*ended, to_come)
    assert refusal.value.context["ended_on"] == "2026-11-20"


def room(*, used: int | None = None, cover: Cover | None = COVER) -> Room:
    others = SimpleNamespace(agreement_id="agr_other", used_fen=10**6)
    mine = [SimpleNamespace(agreement_id=AGREEMENT.id, used_fen=used)] if used is not None else []
    poor = mapped(asdict(replace(COVER, merchant_id="M06", collateral_fen=0)))
    return Room([], [others, *mine], [poor, mapped(asdict(cover))] if cover else [poor])


def test_cap_and_cover_are_enough_to_the_last_fen() -> None:
    room(used=100).check(AGREEMENT, settlement_fen=900, fee_fen=5, at=NOON)
    room().check(replace(AGREEMENT, monthly_cap_fen=9_000), settlement_fen=1_600, fee_fen=50,
                 at=NOON)  # fmt: skip
    with pytest.raises(AgreementCap) as refusal:
        room(used=101).check(AGREEMENT, settlement_fen=900, fee_fen=5, at=NOON)
    assert refusal.value.context == {
        "agreement": "agr_M04_M05",
        "cap_fen": 1_000,
        "left_fen": 899,
        "renews_on": "2026-12-01",
    }
    for cover in (replace(COVER, collateral_fen=1_999), None):
        with pytest.raises(CoverExceeded) as exceeded:
            room(cover=cover).check(
                replace(AGREEMENT, monthly_cap_fen=9_000), settlement_fen=1_600, fee_fen=50, at=NOON
            )
        assert exceeded.value.context == {"issuer": "M04"}


def test_no_less_than_nothing_is_left_of_a_cap() -> None:
    assert cap_refusal(AGREEMENT, left_fen=-7, at=NOON).context["left_fen"] == 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"redeemer": "M04"}, "redeemer"),
        ({"bps": 0}, "settlement_bps"),
        ({"bps": 10_001}, "settlement_bps"),
        ({"fee_bps": -1}, "fee_bps"),
        ({"fee_bps": 10_001}, "fee_bps"),
    ],
)
def test_a_term_that_breaks_its_rule_is_named(changes: dict[str, Any], field: str) -> None:
    terms: dict[str, Any] = {"issuer": "M04", "redeemer": "M05", "bps": 1, "fee_bps": 0}
    agreements._check_terms(**terms)
    agreements._check_terms(**terms | {"bps": 10_000, "fee_bps": 10_000})
    with pytest.raises(InvalidInput) as refusal:
        agreements._check_terms(**terms | changes)
    assert refusal.value.field == (field,)


def test_cover_is_reserved_for_settlement_and_fee() -> None:
    taken = Reserved(
        "red_1", 1, 2, "agr_M04_M05", 1, "M04", "M05", "XH-01", 1_000, 900, 5, "2026-11"
    )
    assert reserved_lines([taken]) == {2: reserve_lines("M04", 905)}
    assert reserved_lines([]) == {}


def test_a_leg_is_told_to_its_parties_and_the_hubs_to_the_operator() -> None:
    told = legs.told_of(LEG, "sent", "M00")
    assert (told.type, told.object_id, told.merchants) == (
        "settlement.leg.sent", "ins_1", {"M04", "M05"},
    )  # fmt: skip
    assert told.data == {"settlement": "set_1", "payer": "M04", "payee": "M05", "amountFen": 700}
    assert legs.told_of(replace(LEG, payee="HUB_FEE"), "sent", "M00").merchants == {"M04", "M00"}


def test_a_payment_becomes_a_leg() -> None:
    settlement = Settlement(
        "set_2026W47", "win_2026W47", Netting.GROSS, SettlementState.DRAFT, "h", 1, "a", NOON
    )
    made = windows._leg(settlement, 3, Flow("M04", "M05", 700))
    assert made.id.startswith("ins_")
    assert replace(made, id="ins_1") == SettlementLeg(
        "ins_1", "set_2026W47", 3, end_to_end_id("set_2026W47", 3), "M04", "M05", 700,
        LegState.DRAFT,
    )  # fmt: skip


def test_a_new_window_is_open_until_saturday() -> None:
    assert windows._new_window("win_2026W47", NOON) == Window(
        "win_2026W47", WindowState.OPEN, NOON, datetime(2026, 11, 20, 16, tzinfo=UTC)
    )


def test_rows_are_lines_that_end_with_a_line_feed() -> None:
    assert windows.write_csv([["a", "b,c"], ["甲", ""]]) == 'a,"b,c"\n甲,\n'
