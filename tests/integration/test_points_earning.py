"""Earning, maturing and returns; the budget gate; the red lines in front of every issue."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.audit import service as audit
from gateway.compliance import service as compliance
from gateway.compliance.model import (
    BudgetExceeded,
    FourEyesRequired,
    IssuerExited,
    LicenceInvalid,
    NoConsumptionBasis,
    UnspecifiedRecipient,
)
from gateway.db import Database
from gateway.errors import AlreadyRegistered, NotFound, Refused
from gateway.ledger import invariants as of_ledger
from gateway.ledger import service as ledger
from gateway.ledger.model import Kind
from gateway.members import service as members
from gateway.merchants import service as merchants
from gateway.points import invariants as of_points
from gateway.points import service as points
from gateway.points.model import Earning, EarningState, LegRequest, Wallet
from gateway.values import InvalidAmount, InvalidInput, Rate
from tests.support import issuers as coalition
from tests.support.issuers import NOW, approve_budget, hold

WEEK = timedelta(days=7)


async def earn(tx: AsyncConnection, ref: str = "ord_1", **changes: Any) -> Earning:
    given: dict[str, Any] = {"programme_id": "P-CA", "member_id": "m1", "ref": ref}
    given |= {"at": NOW, "consumed": True, "actor": "M02", "live": False, "now": NOW}
    if not {"nights", "distance_km"} & changes.keys():
        given["cash_fen"] = 100_000
    return await points.earn(tx, **(given | changes))


async def budget(tx: AsyncConnection, issuer: str = "M02") -> int:
    return await compliance.budget_left(tx, issuer)


async def all_holds(tx: AsyncConnection) -> bool:
    await audit.seal(tx, limit=1_000)
    results = [*await of_ledger.check(tx), *await of_points.check(tx)]
    return all(result.ok for result in results)


async def test_the_point_above_the_budget_is_refused(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        await earn(tx, cash_fen=120_000_000)
        assert await points.available(tx, member_id="m1", issuer="M02", now=NOW) == 1_200_000
        assert await budget(tx) == 0

    with pytest.raises(BudgetExceeded) as over:
        async with database.transaction() as tx:
            await earn(tx, "ord_2", cash_fen=100)

    assert over.value.context == {
        "issuer": "M02",
        "slice": None,
        "budget_fen": 12_000_000,
        "budget_points": 1_200_000,
        "left_fen": 0,
        "left_points": 0,
    }
    async with database.transaction() as tx:
        assert await points.available(tx, member_id="m1", issuer="M02", now=NOW) == 1_200_000
        await approve_budget(tx, "M02", 10)
        await earn(tx, "ord_2", cash_fen=100)
        assert await all_holds(tx)


async def test_compensation_has_a_slice_of_its_own(database: Database) -> None:
    give: dict[str, Any] = {"programme_id": "P-CA", "member_id": "m1", "basis": "COMPENSATION"}
    give |= {"ref": "red_1", "slice": "COMP", "kind": Kind.COMPENSATE, "actor": "gw", "now": NOW}
    async with database.transaction() as tx:
        await coalition.found(tx)
        first = await points.issue(tx, points=12_000, op_key="c1", **give)
        assert await points.issue(tx, points=12_000, op_key="c1", **give) == first
        assert await compliance.budget_left(tx, "M02", "COMP") == 0
        assert await budget(tx) == 12_000_000

    with pytest.raises(BudgetExceeded) as over:
        async with database.transaction() as tx:
            await points.issue(tx, points=1, op_key="c2", **give)
    assert over.value.context["slice"] == "COMP"
    assert over.value.context["budget_points"] == 12_000


async def test_a_slice_is_cut_out_of_the_budget_once_a_year(database: Database) -> None:
    cut: dict[str, Any] = {"issuer": "M01", "slice": "PR-12", "now": NOW}
    async with database.transaction() as tx:
        await coalition.found(tx)
        await compliance.add_slice(tx, fen=5_000, **cut)
        assert await budget(tx, "M01") == 12_000_000 - 5_000
        assert await compliance.budget_left(tx, "M01", "PR-12") == 5_000
        with pytest.raises(AlreadyRegistered):
            await compliance.add_slice(tx, fen=5_000, **cut)
    with pytest.raises(BudgetExceeded):
        async with database.transaction() as tx:
            await compliance.add_slice(tx, fen=12_000_000, **(cut | {"slice": "PR-10"}))


async def test_a_budget_serves_its_year_only(database: Database) -> None:
    new_year = datetime(2026, 12, 31, 16, tzinfo=UTC)
    async with database.transaction() as tx:
        await coalition.found(tx)
        await compliance.add_slice(tx, issuer="M01", slice="PR-12", fen=5_000, now=NOW)
        await approve_budget(tx, "M02", 7_000_000, year=2027)
        await earn(tx)
        assert await budget(tx) == 12_000_000 - 10_000
        assert await compliance.turn_year(tx, now=new_year - timedelta(seconds=1)) == 0

        assert await compliance.turn_year(tx, now=new_year) == 6
        assert await compliance.turn_year(tx, now=new_year) == 0

        assert await budget(tx) == 7_000_000
        assert await compliance.budget_left(tx, "M02", "COMP") == 70_000
        assert await budget(tx, "M01") == 0
        assert await compliance.budget_left(tx, "M01", "PR-12") == 0
        assert await all_holds(tx)
    with pytest.raises(BudgetExceeded):
        async with database.transaction() as tx:
            await earn(tx, "ord_2", programme_id="P-LL", at=new_year, now=new_year)


@pytest.mark.parametrize(
    ("approver", "limit_fen", "passes"),
    [("b", 101_000, True), ("a", 10**9, False), ("b", 100_999, False)],
)
async def test_a_budget_needs_another_person_with_the_limit(
    database: Database, approver: str, limit_fen: int, passes: bool
) -> None:
    async with database.transaction() as tx:
        proposed = await compliance.propose_budget(
            tx,
            issuer="M02",
            year=2026,
            budget_fen=100_000,
            compensation_bps=100,
            actor="a",
            now=NOW,
        )
        give: dict[str, Any] = {"budget_id": proposed.id, "actor": approver, "now": NOW}
        if passes:
            for _ in range(2):
                approved = await compliance.approve_budget(tx, limit_fen=limit_fen, **give)
                assert approved.approved_by == approver
        else:
            with pytest.raises(FourEyesRequired):
                await compliance.approve_budget(tx, limit_fen=limit_fen, **give)
        assert await budget(tx) == (100_000 if passes else 0)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"basis": "LOGIN"}, NoConsumptionBasis),
        ({"ref": " "}, NoConsumptionBasis),
        ({"member_id": "nobody"}, UnspecifiedRecipient),
        ({"member_id": "silent"}, UnspecifiedRecipient),
        ({"live": True}, LicenceInvalid),
        ({"programme_id": "P-LL"}, IssuerExited),
        ({"programme_id": "P-NO"}, NotFound),
        ({"cash_fen": -1}, InvalidAmount),
    ],
)
async def test_a_red_line_refuses_an_issue(
    database: Database, changes: dict[str, Any], refusal: type[Refused]
) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        await members.register(
            tx, name_zh="静", city="上海", consents=[], now=NOW, member_id="silent"
        )
        await merchants.leave(tx, id="M04", exited_on=date(2026, 11, 20))
        for year in (2020, 2025):
            await compliance.record_licence(
                tx,
                kind="EDI",
                number="B21",
                scope="",
                valid_from=date(year, 1, 1),
                valid_until=date(year, 12, 31),
                now=NOW,
            )
    with pytest.raises(refusal) as no:
        async with database.transaction() as tx:
            await earn(tx, **changes)
    if refusal is LicenceInvalid:
        assert no.value.context == {"licence": "B21", "expired_on": "2025-12-31"}


async def test_an_admitted_issue_is_in_the_decision_log(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        await earn(tx)
        (decision,) = await compliance.decisions(tx, subject="m1", limit=10)
    assert decision["verdict"] == "admitted"
    assert decision["context"] == {"issuer": "M02", "basis": "PURCHASE", "ref": "ord_1"}


async def test_a_purchase_earns_once(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        await earn(tx)
    with pytest.raises(AlreadyRegistered):
        async with database.transaction() as tx:
            await earn(tx)
    async with database.transaction() as tx:
        assert await members.related(tx, "m1", "M02")
        assert not await members.related(tx, "m1", "M03")
        assert await points.available(tx, member_id="m1", issuer="M02", now=NOW) == 1_000


async def test_points_earned_under_a_policy_keep_its_terms(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        flight = {"programme_id": "P-YT", "distance_km": 1_178, "fare_class": "经济折扣"}
        await earn(tx, consumed=False, **flight)
        better = {"rate": Rate(8, 1), "months": 48}
        await coalition.publish(tx, "P-YT", **better)
        assert await points.mature(tx, now=NOW + WEEK, limit=10) == 1
        (lot,) = await points.lots(tx, member_id="m1")

    assert (lot.points, lot.policy_version, lot.rate) == (589, 1, Rate(15, 2))
    assert lot.expires_at is not None
    assert lot.expires_at.isoformat() == "2029-11-30T16:00:00+00:00"


@pytest.mark.parametrize(
    "worse",
    [{"rate": Rate(9, 10)}, {"months": 60}, {"rate": Rate(999, 1_000), "months": None}],
    ids=str,
)
async def test_a_promise_is_never_made_worse(database: Database, worse: dict[str, Any]) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        promised = {"num": 1, "den": 1, "months": None}
        asked = worse.get("rate", Rate(1, 1))
        with pytest.raises(points.ValueGuaranteeViolation) as refused:
            await coalition.publish(tx, "P-HM", **worse)
        assert refused.value.context == {
            "programme": "P-HM",
            "offer": None,
            "promised": promised,
            "asked": {"num": asked.num, "den": asked.den, "months": worse.get("months")},
        }
        await coalition.publish(tx, "P-HM", rate=Rate(11, 10))
        assert (await points.programme(tx, "P-HM")).policy_version == 2
        with pytest.raises(points.ValueGuaranteeViolation):
            await coalition.publish(tx, "P-HM")


async def test_a_policy_without_its_disclosures_is_refused(database: Database) -> None:
    stated = coalition.STATED | {"limits_zh": " "}
    async with database.transaction() as tx:
        with pytest.raises(points.DisclosureMissing) as missing:
            await coalition.publish(tx, "P-HM", disclosure=stated)
        assert missing.value.field == ("disclosure",)
        assert missing.value.context == {"fields": ["limits_zh"]}
        await coalition.publish(tx, "P-HM")
        with pytest.raises(AlreadyRegistered) as known:
            await coalition.publish(tx, "P-HM", issuer="M02")
        assert (known.value.field, known.value.context["id"]) == (("programme_id",), "P-HM")


async def test_an_issuer_has_one_programme(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.publish(tx, "P-HM")
        with pytest.raises(AlreadyRegistered) as known:
            await points.publish_policy(
                tx,
                programme_id="P-OTHER",
                issuer="M01",
                name_zh="另一",
                unit_zh="分",
                rate=Rate(1, 1),
                earn=coalition.BY_AMOUNT,
                months=None,
                disclosure=coalition.STATED,
                compensation_bps=100,
                now=NOW,
            )
        assert (known.value.field, known.value.context["id"]) == (("programme_id",), "P-OTHER")


@pytest.mark.parametrize("kind", ["per_amount", "per_night", "per_distance", "per_visit", None])
async def test_a_policy_earns_in_a_known_way(database: Database, kind: str | None) -> None:
    async with database.transaction() as tx:
        if kind in ("per_amount", "per_night", "per_distance"):
            await coalition.publish(tx, "P-HM", earn=coalition.BY_AMOUNT | {"kind": kind})
            assert (await points.programme(tx, "P-HM")).earn["kind"] == kind
            return
        with pytest.raises(InvalidInput) as refused:
            await coalition.publish(tx, "P-HM", earn={"kind": kind})
        assert refused.value.context["field"] == "earn.kind"
        assert refused.value.context["rule"] == "one of per_amount, per_night, per_distance"


async def test_who_has_nothing_has_no_points_and_no_earning(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        assert await points.available(tx, member_id="m1", issuer="M04", now=NOW) == 0
        assert await points.liability(tx, "M05") == 0, "it issues nothing"
        assert await points.history(tx, member_id="m1", limit=9) == []
        with pytest.raises(NotFound) as unknown:
            await points.earning(tx, "ern_none")
        assert unknown.value.context["id"] == "ern_none"
        (found,) = await db.read(tx, points.ask_programmes(["P-LL", "P-CA"]))
        known = points.found_programmes(found, ["P-LL", "P-CA", "P-LL"])
        assert [one.id for one in known] == ["P-LL", "P-CA", "P-LL"]
        with pytest.raises(NotFound) as missing:
            points.found_programmes(found, ["P-LL", "P-NO"])
        assert missing.value.context["id"] == "P-NO"


async def test_history_tells_whole_movements_of_a_programme(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        one = await coalition.open_lot(tx, "m1", "P-LL", 50)
        await coalition.open_lot(tx, "m1", "P-CA", 70)
        later = NOW + WEEK
        await hold(tx, "red_1", LegRequest(1, "m1", "P-LL", 20, ()), now=later)
        held, opened = await points.history(tx, member_id="m1", programme_id="P-LL", limit=9)
        entries = {made.op_key: journal for journal, made in await ledger.entries(tx, limit=9)}
        assert held == points.Movement(
            entries["red_1:hold:1:1"], "HOLD", "P-LL", one.id, 20, 0, "red_1", later
        )
        assert (opened.lot_id, opened.remaining, opened.moved_at) == (one.id, 50, NOW)
        assert len(await points.history(tx, member_id="m1", limit=9)) == 3
        wallets = await points.wallets(tx, "m1", now=later)
        assert {one.programme_id: (one.available, one.held) for one in wallets} == {
            "P-LL": (30, 20), "P-CA": (70, 0)
        }  # fmt: skip


async def test_one_ref_at_two_issuers_is_two_purchases(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        first = await earn(tx)
        other = await earn(tx, programme_id="P-LL", actor="M04")
        assert first.id != other.id
        back = await points.record_return(tx, issuer="M04", ref="ord_1", actor="M04", now=NOW)
        assert back.points == other.points
        assert await points.earning(tx, first.id) == first
        again = await points.record_return(tx, issuer="M02", ref="ord_1", actor="M02", now=NOW)
        assert again.points == first.points


async def test_each_programme_is_a_wallet_of_its_own(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        mine = await coalition.open_lot(tx, "m1", "P-LL", 50)
        await earn(tx, consumed=False, cash_fen=12_000)
        first = await earn(tx, ref="ord_2", programme_id="P-HM", actor="M01")
        await hold(tx, "red_1", LegRequest(1, "m1", "P-HM", first.points, ()))
        await points.record_return(tx, issuer="M01", ref="ord_2", actor="M01", now=NOW)
        assert await points.wallets(tx, "m1", now=NOW) == [
            Wallet("P-CA", "M02", 0, 120, 0, 0),
            Wallet("P-HM", "M01", 0, 0, 1_000, 1_000),
            Wallet("P-LL", "M04", 50, 0, 0, 0),
        ]
        assert await points.lots(tx, member_id="m1", programme_id="P-LL") == [mine]
        assert len(await points.lots(tx, member_id="m1")) == 2


async def test_a_return_in_its_window_takes_pending_points(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        await earn(tx, consumed=False, cash_fen=12_000)
        (wallet,) = await points.wallets(tx, "m1", now=NOW)
        assert (wallet.pending, wallet.available) == (120, 0)
        back: dict[str, Any] = {"issuer": "M02", "ref": "ord_1", "actor": "M02", "now": NOW}
        part = await points.record_return(tx, cash_fen=2_050, **back)
        assert (part.points, part.from_pending) == (21, 21)  # ¥99.50 kept: 99 points
        assert await budget(tx) == 12_000_000 - 990
        with pytest.raises(InvalidAmount):
            await points.record_return(tx, cash_fen=10_000, **back)
        rest = await points.record_return(tx, **back)
        assert rest.points == 99
        assert (await points.record_return(tx, **back)).points == 0
        assert await budget(tx) == 12_000_000
        assert await points.mature(tx, now=NOW + WEEK, limit=10) == 0
        with pytest.raises(NotFound):
            await points.record_return(tx, **(back | {"ref": "other"}))
        assert await all_holds(tx)


async def test_a_debt_is_paid_when_points_mature(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        await earn(tx)
        await hold(tx, "red_1", LegRequest(1, "m1", "P-CA", 1_000))
        returned = await points.record_return(tx, issuer="M02", ref="ord_1", actor="M02", now=NOW)
        assert returned.owed == 1_000  # Held points stay held.
        await earn(tx, "ord_2", consumed=False, cash_fen=70_000)
        await earn(tx, "ord_3", consumed=False, cash_fen=70_000)

        assert await points.mature(tx, now=NOW + WEEK, limit=10) == 2

        (wallet,) = await points.wallets(tx, "m1", now=NOW)
        assert (wallet.available, wallet.held, wallet.owed) == (400, 1_000, 0)
        assert await points.liability(tx, "M02") == 14_000
        assert await all_holds(tx)


async def test_nights_earn_by_tier(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        await members.set_tier(tx, member_id="m1", programme_id="P-YQ", tier="金卡")
        gold = await earn(tx, "stay_1", programme_id="P-YQ", nights=3)
        plain = await earn(tx, "stay_2", programme_id="P-YQ", nights=1, member_id="m2")
    assert (gold.points, plain.points) == (4_500, 1_000)


async def test_what_the_policy_does_not_count_earns_nothing(database: Database) -> None:
    only = {"kind": "per_amount", "points": 1, "per_fen": 100, "only_categories": ["保养"]}
    async with database.transaction() as tx:
        await coalition.found(tx)
        await coalition.publish(tx, "P-CA", earn=only)
        nothing = await earn(tx, category="加油")
        counted = await earn(tx, "ord_2", category="保养", multiplier=Rate(3, 2), bonus=5)
    assert (nothing.points, nothing.state) == (0, EarningState.MATURED)
    assert counted.points == 1_505


async def test_a_gift_can_be_undone(database: Database) -> None:
    gift: dict[str, Any] = {"donation_id": "don_1", "beneficiary": "M16", "actor": "m1"}
    gift |= {"now": NOW}
    async with database.transaction() as tx:
        await coalition.found(tx)
        await coalition.open_lot(tx, "m1", "P-HM", 60, ref="a")
        await coalition.open_lot(tx, "m1", "P-HM", 60, ref="b")
        for _ in range(2):
            taken = await points.donate(tx, member_id="m1", programme_id="P-HM", points=100, **gift)
            assert sum(n for _, n in taken) == 100
        for _ in range(2):
            await points.undonate(tx, **gift)
        found = await points.lots(tx, member_id="m1")
        assert [lot.remaining for lot in found] == [60, 60]
        with pytest.raises(NotFound):
            await points.undonate(tx, **(gift | {"donation_id": "don_2"}))
        assert await all_holds(tx)
    with pytest.raises(points.InsufficientPoints):
        async with database.transaction() as tx:
            await points.donate(
                tx,
                member_id="m1",
                programme_id="P-HM",
                points=121,
                **(gift | {"donation_id": "don_3"}),
            )
