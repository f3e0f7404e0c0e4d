"""Group F: statements and settlement notices."""

from dataclasses import replace
from datetime import date, timedelta
from uuid import uuid4

from gateway.errors import PartnerRejected
from gateway.ports import Capability, SettlementNotice, Statement
from gateway.values import bps_half_up, business_day, start_of
from partners.conformance import Box, Skip, Warn, check

STATEMENT, NOTICE = Capability.STATEMENT, Capability.NOTICE
DUE = timedelta(hours=10)


@check(
    "CF-F01",
    "次日10点前出对账单",
    "T+1 statement by 10:00",
    hint="the statement of a day exists by 10:00 of the next, and not before the day is over",
    needs=STATEMENT,
)
async def is_there_by_ten(box: Box) -> None:
    day = await _day_with(box, cancelled=False)
    try:
        await box.partner.statement(day)
    except PartnerRejected:
        pass
    else:
        raise Warn("the statement of a day that is not over was given")
    await _statement(box, day)


@check(
    "CF-F02",
    "重复拉取内容一致",
    "hash equal",
    hint="the same version always has the same lines, in the same order",
    needs=STATEMENT,
)
async def says_the_same_twice(box: Box) -> None:
    day = await _day_with(box, cancelled=True)
    assert await _statement(box, day) == await _statement(box, day), "it changed, unasked"


@check(
    "CF-F03",
    "表头与合计一致",
    "header and trailer sums",
    hint="the trailer counts the lines and sums their signed amounts",
    needs=STATEMENT,
)
async def adds_up(box: Box) -> None:
    day = await _day_with(box, cancelled=True)
    statement = await _statement(box, day)
    assert statement.business_date == day, "it is another day's"
    assert statement.merchant == box.merchant, "it is another merchant's"
    assert statement.lines, "the day's lines are missing"
    _sums(statement)


@check(
    "CF-F04",
    "7个沙箱日零差异",
    "7 sandbox days reconcile to 0 breaks",
    hint="book a line on the business day of fulfilment: half_up(face × bps ÷ 10,000)",
    needs=STATEMENT,
)
async def reconciles_a_week(box: Box) -> None:
    hand = box.hand()
    for _ in range(7):
        box.travel(days=1)
        expected: dict[str, int] = {}
        for _ in range(2):
            quote, redemption, fact = await box.booked()
            assert fact.booking_ref
            await hand.fulfil(box.merchant, fact.booking_ref, now=box.now, notify=False)
            expected[redemption] = bps_half_up(quote.list_fen, box.bps)
        day = business_day(box.now)
        statement = await _statement(box, day)
        told = {line.gateway_ref: line.amount_fen for line in statement.lines}
        wrong = {ref: told.get(ref) for ref, fen in expected.items() if told.get(ref) != fen}
        assert not wrong, f"{day}: {len(wrong)} of {len(expected)} differ: {wrong}"
        _sums(statement)


@check(
    "CF-F05",
    "冲正引用原笔",
    "reversals cite originals",
    hint="a reversal carries the references of the line it takes back, and its amount negative",
    needs=STATEMENT,
)
async def cites_what_it_reverses(box: Box) -> None:
    day = await _day_with(box, cancelled=True)
    statement = await _statement(box, day)
    reversals = [line for line in statement.lines if line.type == "REVERSAL"]
    assert reversals, "the cancellation left no reversal"
    for line in reversals:
        assert line.amount_fen < 0, "a reversal is not negative"
        assert any(
            one.type == "REDEMPTION"
            and (one.gateway_ref, one.partner_ref) == (line.gateway_ref, line.partner_ref)
            and one.issuer == line.issuer
            for one in statement.lines
        ), "a reversal cites nothing"


@check(
    "CF-F06",
    "空日也有合计为零的对账单",
    "empty day = trailer with zeros",
    hint="a day without lines has a statement too: no lines, count 0, sum 0",
    needs=STATEMENT,
)
async def states_an_empty_day(box: Box) -> None:
    box.travel(days=400)
    statement = await _statement(box, business_day(box.now))
    assert statement.lines == (), "an empty day has lines"
    assert (statement.trailer_count, statement.trailer_sum_fen) == (0, 0)


@check(
    "CF-F07",
    "重出版本被接受",
    "restated version accepted",
    hint="a statement whose content changed has a higher version",
    needs=STATEMENT,
)
async def restates_under_a_higher_version(box: Box) -> None:
    hand = box.hand()
    quote, _, fact = await box.booked()
    assert fact.booking_ref
    await hand.fulfil(box.merchant, fact.booking_ref, now=box.now, notify=False)
    day = business_day(box.now)
    first = await _statement(box, day)
    mine = [line for line in first.lines if line.partner_ref == fact.booking_ref]
    member = mine[0].member_ref if mine else None
    if member is None:
        raise Skip("the statement names no member to plant a fault for")
    await hand.fault(box.merchant, "statement_amount_off", member_ref=member, value=7)
    second = await _statement(box, day)
    assert second.version > first.version, "other content under the same version"
    assert second.trailer_sum_fen == first.trailer_sum_fen + 7 * len(mine)
    assert quote.list_fen > 0


@check(
    "CF-F08",
    "结算通知只确认一次",
    "settlement notice acknowledged once",
    hint="the same op key gives the same receipt; acknowledge by your own client afterwards",
    needs=NOTICE,
)
async def takes_a_notice_once(box: Box) -> None:
    notice = SettlementNotice(
        settlement_id=f"set_cf{uuid4().hex}",
        leg_id=f"ins_cf{uuid4().hex}",
        payer=box.issuer,
        payee=box.merchant,
        amount_fen=4050,
        net_hash="0" * 64,
        audit_head="eyJ0eXAiOiJhdWRpdC1oZWFkK2p3cyJ9.e30.AA",
    )
    key = f"{notice.leg_id}:notice"
    first = await box.partner.settlement_notice(notice, op_key=key)
    again = await box.partner.settlement_notice(notice, op_key=key)
    assert first.receipt_ref, "no receipt"
    assert again == first, "the same notice was taken twice"
    other = replace(notice, leg_id=f"ins_cf{uuid4().hex}")
    second = await box.partner.settlement_notice(other, op_key=f"{other.leg_id}:notice")
    assert second.receipt_ref != first.receipt_ref, "two legs under one receipt"


async def _day_with(box: Box, *, cancelled: bool) -> date:
    """A new business day with one booking that was served, or cancelled before use."""
    box.travel(days=1)
    _, redemption, fact = await box.booked()
    assert fact.booking_ref
    if cancelled:
        offered = await box.partner.cancel_quote(fact.booking_ref)
        await box.partner.cancel(offered.id, op_key=f"{redemption}:cancel:1")
    else:
        await box.hand().fulfil(box.merchant, fact.booking_ref, now=box.now, notify=False)
    return business_day(box.now)


async def _statement(box: Box, day: date) -> Statement:
    """The day's statement, at 10:00 of the next; then back to the time it was."""
    before = box.now
    box.travel()
    box.now = start_of(day + timedelta(days=1)) + DUE
    try:
        return await box.partner.statement(day)
    finally:
        box.now = before


def _sums(statement: Statement) -> None:
    total = sum(line.amount_fen for line in statement.lines)
    assert statement.trailer_count == len(statement.lines), "the trailer miscounts"
    assert statement.trailer_sum_fen == total, "the trailer missums"
    numbers = [line.line for line in statement.lines]
    assert numbers == sorted(set(numbers)), "lines are not numbered in order"
