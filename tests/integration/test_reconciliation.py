"""The demo day against the partners' statements, on both databases."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from gateway.compliance.model import FourEyesRequired
from gateway.db import Clock, Database
from gateway.errors import NotFound, PartnerUnavailable
from gateway.ledger import service as ledger
from gateway.ports import Capability, Statement, StatementLine
from gateway.reconciliation import service as reconciliation
from gateway.reconciliation.invariants import check
from gateway.reconciliation.model import BreakState, Run
from gateway.settlement import invariants as settlement_invariants
from gateway.settlement import service as settlement
from gateway.values import InvalidInput
from tests.support import day
from tests.support.day import CUT, EXPECTED

FRIDAY = date(2026, 11, 20)
NINE = datetime(2026, 11, 21, 1, tzinfo=UTC)  # 09:00 in Shanghai


def statement_of(row: Mapping[str, Any], **changes) -> Statement:
    lines = tuple(
        StatementLine(**line | {"business_date": date.fromisoformat(line["business_date"])})
        for line in row["lines"]
    )
    made = Statement(
        merchant=row["merchant"],
        business_date=date.fromisoformat(row["business_date"]),
        version=row["statement_version"],
        lines=lines,
        trailer_count=row["trailer"]["count"],
        trailer_sum_fen=row["trailer"]["sum_fen"],
    )
    return replace(made, **changes)


STATEMENTS = {row["merchant"]: statement_of(row) for row in day.DAY["statements"]}


@pytest.fixture
async def played(database: Database) -> Database:
    async with database.transaction() as tx:
        await day.seed(tx)
    await day.play(database)
    async with database.transaction() as tx:
        await settlement.close_window(tx, now=CUT)
    return database


async def matched(database: Database, statements: Sequence[Statement], **rules) -> Run:
    async with database.transaction() as tx:
        run = await reconciliation.start_run(tx, day=FRIDAY, actor="usr_fang", now=NINE, **rules)
    for statement in statements:
        async with database.transaction() as tx:
            ask = {"run_id": run.id, "merchant": statement.merchant, "now": NINE}
            await reconciliation.stage(tx, statement=statement, **ask)
    async with database.transaction() as tx:
        return await reconciliation.match_run(tx, run_id=run.id, now=NINE)


async def all_hold(database: Database) -> None:
    async with database.reading() as tx:
        results = await check(tx) + await settlement_invariants.check(tx)
    assert [result.id for result in results[:5]] == ["B1", "B2", "B3", "B4", "B5"]
    assert [result for result in results if not result.ok] == []


async def test_the_day_has_exactly_the_planted_breaks(played: Database) -> None:
    run = await matched(played, list(STATEMENTS.values()))
    assert run.state == "REVIEW"
    population = EXPECTED["population"]
    assert (run.ours_count, run.theirs_count) == (population["ours"], population["theirs"])
    assert run.ours_fen == population["ours_sum_fen"]
    assert run.theirs_fen == population["theirs_sum_fen"]
    assert run.balanced_count == EXPECTED["merchants_balanced"] == 14
    assert len(run.merchants) == 16
    unbalanced = [each.merchant for each in run.merchants if not each.balanced]
    assert unbalanced == EXPECTED["merchants_with_breaks"]
    assert (run.break_count, run.break_fen) == (4, EXPECTED["break_total_fen"])
    async with played.reading() as tx:
        found = await reconciliation.breaks(tx, run_id=run.id)
    wanted = {
        (r["code"], r["redemption"], r["merchant"], r["amount_fen"]) for r in EXPECTED["breaks"]
    }
    assert {(each.code, each.ref, each.merchant, each.amount_fen) for each in found} == wanted
    (price,) = [each for each in found if each.code == "AMOUNT_DIFF"]
    assert price.hypothesis_zh == "差额 0.90 元 = (46.00 − 45.00) × 90 %,疑似票价录成 46.00"
    assert (price.ours_fen, price.theirs_fen) == (4050, 4140)
    await all_hold(played)


async def test_statements_in_any_order_give_the_same_hash(played: Database) -> None:
    first = await matched(played, list(STATEMENTS.values()))
    shuffled = [replace(each, lines=tuple(reversed(each.lines))) for each in STATEMENTS.values()]
    async with played.transaction() as tx:
        with pytest.raises(reconciliation.RunLocked):
            await reconciliation.match_run(tx, run_id=first.id, now=NINE)
    again = await matched(played, list(reversed(list(STATEMENTS.values()))))
    assert again.supersedes == first.id
    assert (again.inputs_hash, again.result_hash) == (first.inputs_hash, first.result_hash)
    other = await matched(played, shuffled)  # lines out of sequence: exceptions, same result
    assert other.result_hash == first.result_hash
    assert sum(each.exceptions for each in other.merchants) > 0
    async with played.reading() as tx:
        states = [each.state for each in await reconciliation.runs(tx, day=FRIDAY)]
    assert states == ["SUPERSEDED", "SUPERSEDED", "REVIEW"]
    await all_hold(played)


async def test_two_people_resolve_a_break_and_it_stays_resolved(played: Database) -> None:
    run = await matched(played, list(STATEMENTS.values()))
    async with played.transaction() as tx:
        (price,) = await reconciliation.breaks(tx, run_id=run.id, code="AMOUNT_DIFF")
        ask = {"break_id": price.id, "note": "票价已核实", "now": NINE}
        asked = await reconciliation.propose_resolution(
            tx, action="ASK_PARTNER", actor="usr_fang", **ask
        )
        with pytest.raises(NotFound):
            await reconciliation.approve_resolution(
                tx, resolution_id=asked.id, actor="usr_gao", limit_fen=10**6, now=NINE
            )
        with pytest.raises(InvalidInput):
            await reconciliation.propose_resolution(tx, action="SHRUG", actor="usr_fang", **ask)
        proposal = await reconciliation.propose_resolution(
            tx, action="ACCEPT_THEIRS", actor="usr_fang", **ask
        )
        decide = {"resolution_id": proposal.id, "limit_fen": 10**6, "now": NINE}
        with pytest.raises(FourEyesRequired):
            await reconciliation.approve_resolution(tx, actor="usr_fang", **decide)
        with pytest.raises(FourEyesRequired) as error:
            await reconciliation.approve_resolution(
                tx, actor="usr_gao", **decide | {"limit_fen": 89}
            )
        assert error.value.context == {"amount_fen": 90, "limit_fen": 89}
        done = await reconciliation.approve_resolution(tx, actor="usr_gao", **decide)
        assert done == await reconciliation.approve_resolution(tx, actor="usr_gao", **decide)
        (row,) = await settlement.obligations(tx, cause_id=price.id)
        claim = (row.type, row.payer, row.payee, row.amount_fen)
        assert claim == ("ADJUSTMENT", "M02", "M05", 90)
        assert row.window_id == "win_2026W48"
        assert row.corrects_id == price.ours_ids[0]
        assert await ledger.balance(tx, "HUB", "POS:M02") == 4070 + 90
        (closed,) = await reconciliation.breaks(tx, break_id=price.id)
        assert (closed.state, closed.resolution_id) == (BreakState.CLOSED, proposal.id)
        with pytest.raises(InvalidInput):
            await reconciliation.propose_resolution(
                tx, action="ACCEPT_OURS", actor="usr_fang", **ask
            )
    await all_hold(played)
    again = await matched(played, list(STATEMENTS.values()))
    async with played.reading() as tx:
        (same,) = await reconciliation.breaks(tx, run_id=again.id, code="AMOUNT_DIFF")
        others = await reconciliation.breaks(tx, run_id=again.id, states=[BreakState.OPEN])
    assert same.state == BreakState.AUTO_RESOLVED
    assert len(others) == 3
    await all_hold(played)


async def test_a_write_off_keeps_to_the_tolerance(played: Database) -> None:
    run = await matched(played, list(STATEMENTS.values()))
    async with played.transaction() as tx:
        found = {each.code: each for each in await reconciliation.breaks(tx, run_id=run.id)}
        ask = {"action": "WRITE_OFF", "note": "", "actor": "usr_fang", "now": NINE}
        with pytest.raises(reconciliation.ToleranceExceeded) as error:
            await reconciliation.propose_resolution(
                tx, break_id=found["DUPLICATE_PARTNER"].id, **ask
            )
        assert error.value.context == {"limit_fen": 100, "asked_fen": 900}
        proposal = await reconciliation.propose_resolution(
            tx, break_id=found["AMOUNT_DIFF"].id, **ask
        )
        await reconciliation.approve_resolution(
            tx, resolution_id=proposal.id, actor="usr_gao", limit_fen=100, now=NINE
        )
        assert await ledger.balance(tx, "HUB", "POS:RECON_TOLERANCE") == 90
    await all_hold(played)


async def test_a_signed_off_run_is_locked(played: Database) -> None:
    run = await matched(played, list(STATEMENTS.values()))
    async with played.transaction() as tx:
        sign = {"run_id": run.id, "actor": "usr_gao", "now": NINE}
        with pytest.raises(reconciliation.CloseBlocked) as error:
            await reconciliation.sign_off_run(tx, **sign)
        assert error.value.context == {"count": 4, "amount_fen": 2790}
        for each in await reconciliation.breaks(tx, run_id=run.id):
            await reconciliation.assign_break(tx, break_id=each.id, owner="usr_fang")
        locked = await reconciliation.sign_off_run(tx, **sign)
        assert locked.state == "LOCKED"
        with pytest.raises(reconciliation.RunLocked) as refused:
            await reconciliation.stage(
                tx, run_id=run.id, merchant="M01", statement=STATEMENTS["M01"], now=NINE
            )
        assert refused.value.context == {"run": run.id}
        with pytest.raises(reconciliation.RunLocked):
            await reconciliation.sign_off_run(tx, **sign)
    await all_hold(played)


async def test_a_file_counts_once_and_a_later_version_replaces_it(played: Database) -> None:
    m07 = STATEMENTS["M07"]
    async with played.transaction() as tx:
        run = await reconciliation.start_run(tx, day=FRIDAY, actor="usr_fang", now=NINE)
        ask = {"run_id": run.id, "merchant": "M07", "now": NINE}
        assert await reconciliation.stage(tx, statement=m07, **ask) == []
        with pytest.raises(reconciliation.BillDuplicate) as error:
            await reconciliation.stage(tx, statement=m07, **ask)
        assert error.value.context["imported_at"] == NINE.isoformat()
        one = replace(m07, version=2, lines=m07.lines[:1], trailer_count=1, trailer_sum_fen=900)
        assert await reconciliation.stage(tx, statement=one, **ask) == []
        run = await reconciliation.match_run(tx, run_id=run.id, now=NINE)
    (merchant,) = [each for each in run.merchants if each.merchant == "M07"]
    assert (merchant.theirs_count, merchant.matched) == (1, 1)
    await all_hold(played)


async def test_what_cannot_be_read_is_an_exception_and_no_break(played: Database) -> None:
    m05 = STATEMENTS["M05"]
    good, *rest = m05.lines
    bad = [replace(rest[0], amount_fen=-1), replace(rest[1], type="GIFT"), replace(rest[2], line=1)]
    broken = replace(m05, lines=(good, *bad), trailer_count=9)
    run = await matched(played, [broken])
    async with played.reading() as tx:
        found = await reconciliation.exceptions(tx, run_id=run.id)
    lines = [each["line"] for each in found["M05"]]
    assert lines == [0, 0, 2, 3, 1]
    (merchant,) = [each for each in run.merchants if each.merchant == "M05"]
    assert (merchant.theirs_count, merchant.exceptions, merchant.balanced) == (1, 5, False)
    await all_hold(played)


async def test_what_a_contract_lets_be_late_is_carried_to_the_next_day(played: Database) -> None:
    late = {"lag_days": {"M12": 1}}
    others = [each for each in STATEMENTS.values() if each.merchant != "M12"]
    run = await matched(played, others, **late)
    assert (run.expected_count, run.break_count) == (1, 4)
    await all_hold(played)
    saturday = FRIDAY + timedelta(days=1)
    async with played.transaction() as tx:
        run = await reconciliation.start_run(
            tx, day=saturday, actor="usr_fang", now=NINE + timedelta(days=1), **late
        )
        statement = replace(STATEMENTS["M12"], business_date=saturday)
        ask = {"run_id": run.id, "merchant": "M12", "statement": statement}
        await reconciliation.stage(tx, now=NINE + timedelta(days=1), **ask)
        run = await reconciliation.match_run(tx, run_id=run.id, now=NINE + timedelta(days=1))
    assert (run.matched_count, run.break_count, run.expected_count) == (1, 0, 0)
    await all_hold(played)


class Stub:
    """A partner that has a statement, or none."""

    capabilities = Capability.ALL

    def __init__(self, code: str, *, down: bool = False) -> None:
        self.code = code
        self.down = down

    async def statement(self, on: date) -> Statement:
        if self.down:
            raise PartnerUnavailable(merchant=self.code)
        assert on == FRIDAY
        return STATEMENTS[self.code]


async def test_statements_are_pulled_from_all_partners_that_answer(played: Database) -> None:
    async with played.transaction() as tx:
        run = await reconciliation.start_run(tx, day=FRIDAY, actor="usr_fang", now=NINE)
    partners = {code: Stub(code, down=code == "M09") for code in STATEMENTS}
    failed = await reconciliation.pull(played, partners, Clock(), run.id)
    assert {code: error.code for code, error in failed.items()} == {"M09": "PARTNER_UNAVAILABLE"}
    partners["M09"].down = False
    assert await reconciliation.pull(played, partners, Clock(), run.id) == {}
    async with played.transaction() as tx:
        run = await reconciliation.match_run(tx, run_id=run.id, now=NINE)
    assert (run.balanced_count, run.break_count) == (14, 4)
    await all_hold(played)
