"""Reconciliation runs: snapshot ours, stage theirs, match, resolve, sign off.

A run is started after its business day, statements are staged merchant by merchant (each in a
transaction of its own: what is staged stays staged), then everything is matched at once. A
restatement makes a new run, which supersedes the last.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date, datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.audit import service as audit
from gateway.db import Clock, Database
from gateway.errors import GatewayError, NoAnswer, NotFound, PartnerRejected, Refused
from gateway.ports import Capability, Partner, Statement
from gateway.reconciliation import sagas, store
from gateway.reconciliation.matching import match
from gateway.reconciliation.model import (
    CLOSED_STATES,
    REDEMPTION,
    REVERSAL,
    Break,
    BreakState,
    Finding,
    MerchantResult,
    Outcome,
    PlacedRow,
    Rating,
    Row,
    Rules,
    Run,
    RunState,
    Side,
    Status,
    deadline,
    flows_to_theirs,
    inputs_hash,
    result_hash,
)
from gateway.reconciliation.resolution import (
    ToleranceExceeded,
    approve_resolution,
    assign_break,
    propose_resolution,
    reject_resolution,
    resolutions,
)
from gateway.settlement import service as settlement
from gateway.settlement.model import Obligation, Type
from gateway.values import fingerprint, new_id

__all__ = [
    "BillDuplicate",
    "CloseBlocked",
    "RunLocked",
    "ToleranceExceeded",
    "approve_resolution",
    "assign_break",
    "breaks",
    "exceptions",
    "match_run",
    "propose_resolution",
    "pull",
    "reject_resolution",
    "resolutions",
    "rows",
    "run",
    "runs",
    "sign_off_run",
    "stage",
    "start_run",
]


class RunLocked(Refused):
    code = "RUN_LOCKED"
    when = "changing a signed-off run"
    zh = "对账批次已锁定"
    en = "the run is locked"
    next_zh = "请新建一个替代批次"
    next_en = "start a superseding run"


class BillDuplicate(Refused):
    code = "BILL_DUPLICATE"
    when = "the same file again"
    zh = "该账单文件已导入"
    en = "this file was imported before"
    next_zh = "请发送新的版本"
    next_en = "send a new version"


class CloseBlocked(Refused):
    code = "CLOSE_BLOCKED"
    when = "unclassified residuals or drift"
    zh = "还有 {count} 项未归类,共 {amount}"
    en = "{count} items unclassified, {amount}"
    next_zh = "请打开差异清单"
    next_en = "open the list"


async def start_run(
    tx: AsyncConnection,
    *,
    day: date,
    actor: str,
    now: datetime,
    lag_days: Mapping[str, int] | None = None,
    booking_refs: Mapping[str, str] | None = None,
) -> Run:
    """Start the run of a business day: our side is snapshotted.

    An earlier run of the day is superseded; what was decided about its breaks stays decided.

    Args:
        lag_days: Per merchant, how many days late a row may be by contract; default none.
        booking_refs: The partner's reference per redemption, for P2.
    """
    earlier = await store.find_runs(tx, store.runs.c.business_date == day, lock=True)
    for old in earlier:
        await store.update_run(tx, old.id, state=RunState.SUPERSEDED)
    run = Run(
        id=new_id("run"),
        business_date=day,
        number=len(earlier) + 1,
        state=RunState.CREATED,
        actor=actor,
        created_at=now,
        rules=Rules(lag_days=dict(sorted((lag_days or {}).items()))),
        supersedes=earlier[-1].id if earlier else None,
    )
    await store.add_run(tx, run)
    ours = await _ours(tx, day, booking_refs or {})
    carried = await store.carried(tx, before=day)
    await store.add_rows(tx, run.id, Side.OURS, [*carried, *ours])
    return run


async def stage(
    tx: AsyncConnection, *, run_id: str, merchant: str, statement: Statement, now: datetime
) -> list[dict[str, object]]:
    """Stage a merchant's statement. Rows that cannot be matched become staging exceptions.

    A later version replaces what is staged.

    Returns:
        The exceptions: `line` (0 for the trailer) and `rule`.

    Raises:
        NotFound: There is no such run.
        RunLocked: It is matched already, or superseded.
        BillDuplicate: This statement, or a later version, is staged already.
    """
    found = await _run(tx, run_id, lock=True)
    if found.state not in (RunState.CREATED, RunState.INGESTING):
        raise RunLocked(run=run_id)
    document = asdict(statement)
    sha256 = fingerprint(document)
    s = store.statements.c
    for staged in await store.find_statements(tx, s.run_id == run_id, s.merchant == merchant):
        if staged.sha256 == sha256 or staged.version >= statement.version:
            raise BillDuplicate(sha256=sha256, imported_at=staged.imported_at)
        await store.drop_statement(tx, run_id, merchant)
    rows, exceptions = _read(statement, merchant=merchant, day=found.business_date)
    await store.add_statement(
        tx,
        {
            "run_id": run_id,
            "merchant": merchant,
            "version": statement.version,
            "sha256": sha256,
            "imported_at": now,
            "exceptions": exceptions,
        },
    )
    await store.add_rows(tx, run_id, Side.THEIRS, rows)
    await store.update_run(tx, run_id, state=RunState.INGESTING)
    return exceptions


async def pull(
    database: Database, partners: Mapping[str, Partner], clock: Clock, run_id: str
) -> dict[str, GatewayError]:
    """Pull and stage the statements a run lacks, with no transaction open across a call.

    Returns:
        Merchants whose statement could not be had, with the reason.
    """
    async with database.reading() as tx:
        found = await _run(tx, run_id)
        staged = await store.find_statements(tx, store.statements.c.run_id == run_id)
    have = {row.merchant for row in staged}
    wanted = {
        merchant: partner
        for merchant, partner in sorted(partners.items())
        if Capability.STATEMENT in partner.capabilities and merchant not in have
    }
    failed: dict[str, GatewayError] = {}

    async def ask(merchant: str, partner: Partner) -> None:
        try:
            statement = await partner.statement(found.business_date)
        except (NoAnswer, PartnerRejected) as error:
            failed[merchant] = error
            return
        async with database.transaction() as tx:
            await stage(tx, run_id=run_id, merchant=merchant, statement=statement, now=clock.now())

    async with asyncio.TaskGroup() as group:
        for merchant, partner in wanted.items():
            group.create_task(ask(merchant, partner))
    return failed


async def match_run(tx: AsyncConnection, *, run_id: str, now: datetime) -> Run:
    """Match a run once, and open its breaks.

    A break decided in a superseded run is resolved already.

    Raises:
        NotFound: There is no such run.
        RunLocked: It is matched already, or superseded.
    """
    run = await _run(tx, run_id, lock=True)
    if run.state not in (RunState.CREATED, RunState.INGESTING):
        raise RunLocked(run=run_id)
    ours, theirs, outcome = await _match(tx, run)
    inputs = inputs_hash(ours, theirs, run.rules)
    made = await _breaks(tx, run, outcome.breaks, now=now)
    await _place(tx, run, outcome, made)
    made += await _decided_before(tx, await sagas.breaks(tx, run, now=now), now=now)
    await store.add_breaks(tx, made)
    lines = await _merchants(tx, run, ours, theirs, outcome, made=made)
    summary = {
        "merchants": [asdict(each) for each in lines],
        "break_count": len(made),
        "break_fen": sum(each.amount_fen for each in made),
        "expected_count": len(outcome.expected),
    }
    await store.update_run(
        tx,
        run_id,
        state=RunState.REVIEW,
        inputs_hash=inputs,
        result_hash=result_hash(inputs, outcome),
        matched_at=now,
        summary=summary,
    )
    return await _run(tx, run_id)


async def sign_off_run(tx: AsyncConnection, *, run_id: str, actor: str, now: datetime) -> Run:
    """Sign a matched run off: it is locked. Its breaks live on, each closed or with an owner.

    Raises:
        NotFound: There is no such run.
        RunLocked: It is signed off already, not matched yet, or superseded.
        CloseBlocked: Breaks are open without an owner.
    """
    found = await _run(tx, run_id, lock=True)
    if found.state is not RunState.REVIEW:
        raise RunLocked(run=run_id)
    b = store.breaks.c
    nobodys = await store.find_breaks(tx, b.run_id == run_id, b.state == BreakState.OPEN)
    if nobodys:
        amount_fen = sum(each.amount_fen for each in nobodys)
        raise CloseBlocked(count=len(nobodys), amount_fen=amount_fen)
    values = {"state": RunState.LOCKED, "signed_off_by": actor, "signed_off_at": now}
    await store.update_run(tx, run_id, **values)
    body = {"business_date": found.business_date.isoformat(), "result_hash": found.result_hash}
    await audit.record(
        tx, kind="reconciliation.signed_off", subject=run_id, actor=actor, body=body, now=now
    )
    return replace(found, state=RunState.LOCKED, signed_off_by=actor, signed_off_at=now)


async def run(tx: AsyncConnection, run_id: str) -> Run:
    """One run.

    Raises:
        NotFound: There is none.
    """
    return await _run(tx, run_id)


async def runs(tx: AsyncConnection, *, day: date | None = None) -> list[Run]:
    """Runs by day and number, superseded ones included."""
    where = [] if day is None else [store.runs.c.business_date == day]
    return await store.find_runs(tx, *where)


async def breaks(
    tx: AsyncConnection,
    *,
    run_id: str | None = None,
    break_id: str | None = None,
    merchant: str | None = None,
    code: str | None = None,
    states: Sequence[BreakState] | None = None,
) -> list[Break]:
    """Breaks by merchant, redemption, code."""
    b = store.breaks.c
    given = ((b.run_id, run_id), (b.break_id, break_id), (b.merchant, merchant), (b.code, code))
    where = [column == value for column, value in given if value is not None]
    if states is not None:
        where.append(b.state.in_(states))
    return await store.find_breaks(tx, *where)


async def rows(
    tx: AsyncConnection,
    *,
    run_id: str,
    merchant: str | None = None,
    status: str | None = None,
) -> list[PlacedRow]:
    """Rows of both sides with their places, by merchant, redemption, day."""
    r = store.rows.c
    given = ((r.run_id, run_id), (r.merchant, merchant), (r.status, status))
    return await store.find_placed(
        tx, *(column == value for column, value in given if value is not None)
    )


async def exceptions(tx: AsyncConnection, *, run_id: str) -> dict[str, list[dict[str, object]]]:
    """Staging exceptions of a run by merchant: `line` (0 for the trailer) and `rule`."""
    staged = await store.find_statements(tx, store.statements.c.run_id == run_id)
    return {row.merchant: row.exceptions for row in staged if row.exceptions}


async def _run(tx: AsyncConnection, run_id: str, *, lock: bool = False) -> Run:
    found = await store.find_runs(tx, store.runs.c.run_id == run_id, lock=lock)
    if not found:
        raise NotFound(id=run_id)
    return found[0]


async def _ours(tx: AsyncConnection, day: date, booking_refs: Mapping[str, str]) -> list[Row]:
    """Our obligations of a day as a statement would print them, with how they were rated."""
    found = await settlement.statement_rows(tx, merchant=None, day=day)
    fees = {
        (row.cause_id, row.epoch, row.leg_no): row.amount_fen
        for row in await settlement.obligations(tx, day=day)
        if row.type is Type.FEE
    }
    used = {row.agreement_id for row in found if row.agreement_id}
    bps: dict[str, dict[int, int]] = defaultdict(dict)
    for each in await settlement.agreements(tx, agreement_ids=sorted(used)):
        bps[each.id][each.version] = each.settlement_bps
    rows = []
    for row in found:
        rating = None
        if row.face_fen and row.agreement_id and row.agreement_version:
            mine = bps[row.agreement_id][row.agreement_version]
            others = sorted(set(bps[row.agreement_id].values()) - {mine})
            fee = fees.get((row.cause_id, row.epoch, row.leg_no), 0)
            rating = Rating(row.face_fen, mine, fee, tuple(others))
        rows.append(_our_row(row, rating, booking_refs))
    return rows


def _our_row(row: Obligation, rating: Rating | None, booking_refs: Mapping[str, str]) -> Row:
    assert row.business_date
    return Row(
        id=row.id,
        merchant=row.redeemer,
        ref=row.cause_id,
        partner_ref=booking_refs.get(row.cause_id),
        type=row.type,
        issuer=row.issuer,
        amount_fen=row.statement_fen,
        business_date=row.business_date,
        offer_id=row.offer_id,
        rating=rating,
    )


def _read(
    statement: Statement, *, merchant: str, day: date
) -> tuple[list[Row], list[dict[str, object]]]:
    """Rows that can be matched, and exceptions for the rest, for gaps and for the trailer."""
    exceptions: list[dict[str, object]] = []
    if (statement.merchant, statement.business_date) != (merchant, day):
        exceptions.append({"line": 0, "rule": f"statement of {merchant} on {day}"})
    if statement.trailer_count != len(statement.lines):
        exceptions.append({"line": 0, "rule": f"count {len(statement.lines)}"})
    total = sum(line.amount_fen for line in statement.lines)
    if statement.trailer_sum_fen != total:
        exceptions.append({"line": 0, "rule": f"sum_fen {total}"})
    rows: list[Row] = []
    seen: set[int] = set()
    for expected, line in enumerate(statement.lines, 1):
        sign = {REDEMPTION: 1, REVERSAL: -1}.get(line.type, 0)
        if line.line in seen:
            exceptions.append({"line": line.line, "rule": "line number once"})
            continue
        seen.add(line.line)
        if line.line != expected:
            exceptions.append({"line": line.line, "rule": f"line {expected}, without a gap"})
        if not sign or not line.issuer or line.amount_fen * sign <= 0:
            rule = "REDEMPTION > 0 or REVERSAL < 0, of an issuer"
            exceptions.append({"line": line.line, "rule": rule})
            continue
        rows.append(
            Row(
                id=f"{merchant}:{statement.version}:{line.line}",
                merchant=merchant,
                ref=line.gateway_ref,
                partner_ref=line.partner_ref,
                type=line.type,
                issuer=line.issuer,
                amount_fen=line.amount_fen,
                business_date=line.business_date,
                offer_id=line.offer_id,
            )
        )
    return rows, exceptions


async def _match(tx: AsyncConnection, run: Run) -> tuple[list[Row], list[Row], Outcome]:
    r = store.rows.c
    ours = await store.find_rows(tx, r.run_id == run.id, r.side == Side.OURS)
    theirs = await store.find_rows(tx, r.run_id == run.id, r.side == Side.THEIRS)
    our_ids = {row.id for row in ours}
    unknown = {row.ref for row in theirs if row.ref} - {row.ref for row in ours}
    claims = await settlement.statement_rows(tx, merchant=None, cause_ids=sorted(unknown))
    ours_elsewhere = [_our_row(row, None, {}) for row in claims if row.id not in our_ids]
    unseen = {row.ref for row in ours if row.ref} - {row.ref for row in theirs}
    theirs_elsewhere = await store.find_refs(
        tx,
        unseen,
        r.run_id != run.id,
        r.side == Side.THEIRS,
        r.status != Status.MATCHED,
    )
    outcome = match(
        ours,
        theirs,
        day=run.business_date,
        rules=run.rules,
        ours_elsewhere=ours_elsewhere,
        theirs_elsewhere=theirs_elsewhere,
        matched_elsewhere=await store.matched_elsewhere(
            tx, (row.id for row in ours_elsewhere), run_id=run.id
        ),
    )
    return ours, theirs, outcome


async def _breaks(
    tx: AsyncConnection, run: Run, findings: Sequence[Finding], *, now: datetime
) -> list[Break]:
    """Breaks of a run's findings; one decided before, under the same key, is resolved."""
    numbers = Counter[str]()
    made: list[Break] = []
    for each in findings:
        words = [run.business_date, each.code, each.merchant, each.ref]
        words += [[row.id for row in each.ours], [row.amount_fen for row in each.theirs]]
        like = fingerprint(words)
        numbers[like] += 1
        key = fingerprint([like, numbers[like]])
        made.append(
            Break(
                id=new_id("brk"),
                run_id=run.id,
                key=key,
                code=each.code,
                merchant=each.merchant,
                issuer=each.rows[0].issuer,
                ref=each.ref,
                ours_ids=tuple(row.id for row in each.ours),
                theirs_ids=tuple(row.id for row in each.theirs),
                ours_fen=each.ours_fen,
                theirs_fen=each.theirs_fen,
                amount_fen=each.amount_fen,
                field=each.field,
                hypothesis_zh=each.hypothesis.zh,
                hypothesis_en=each.hypothesis.en,
                flows=flows_to_theirs(each),
                state=BreakState.OPEN,
                opened_at=now,
                due_at=deadline(now, each.amount_fen),
            )
        )
    return await _decided_before(tx, made, now=now)


async def _decided_before(
    tx: AsyncConnection, made: Sequence[Break], *, now: datetime
) -> list[Break]:
    """Breaks of a run, those resolved that were decided in a run that this one supersedes."""
    b = store.breaks.c
    keys = [each.key for each in made if each.state not in CLOSED_STATES]
    decided = await store.find_breaks(tx, b.key.in_(keys), b.state.in_(CLOSED_STATES))
    before = {each.key: each.resolution_id for each in decided}
    return [
        replace(
            each,
            state=BreakState.AUTO_RESOLVED,
            closed_at=now,
            resolution_id=before[each.key],
        )
        if each.key in before
        else each
        for each in made
    ]


async def _place(tx: AsyncConnection, run: Run, outcome: Outcome, made: Sequence[Break]) -> None:
    """Say of every row where it is."""
    placed: dict[Side, list[dict[str, object]]] = {Side.OURS: [], Side.THEIRS: []}
    for number, each in enumerate(outcome.matches, 1):
        values = {"status": Status.MATCHED, "match_no": number, "made_by": each.made_by}
        placed[Side.OURS].append({"id_": each.ours} | values)
        placed[Side.THEIRS].append({"id_": each.theirs} | values)
    for found in made:
        values = {"status": Status.BREAK, "break_id": found.id}
        placed[Side.OURS] += [{"id_": row_id} | values for row_id in found.ours_ids]
        placed[Side.THEIRS] += [{"id_": row_id} | values for row_id in found.theirs_ids]
    placed[Side.OURS] += [{"id_": row.id, "status": Status.EXPECTED} for row in outcome.expected]
    for side, rows in placed.items():
        await store.place(tx, run.id, side, rows)


async def _merchants(
    tx: AsyncConnection,
    run: Run,
    ours: Sequence[Row],
    theirs: Sequence[Row],
    outcome: Outcome,
    *,
    made: Sequence[Break],
) -> list[MerchantResult]:
    """One line per merchant that has rows or open breaks, or has delivered a statement."""
    staged = await store.find_statements(tx, store.statements.c.run_id == run.id)
    exceptions = {row.merchant: len(row.exceptions) for row in staged}
    by_id = {row.id: row.merchant for row in ours}
    matched = Counter(by_id[each.ours] for each in outcome.matches)
    broken = Counter(
        merchant for each in outcome.breaks for merchant in {row.merchant for row in each.rows}
    )
    from_sagas = [each for each in made if not (each.ours_ids or each.theirs_ids)]
    broken.update(each.merchant for each in from_sagas if each.state not in CLOSED_STATES)
    names = {*exceptions, *by_id.values(), *broken, *(row.merchant for row in theirs)}
    return [
        MerchantResult(
            merchant=name,
            delivered=name in exceptions,
            ours_count=sum(row.merchant == name for row in ours),
            ours_fen=sum(row.amount_fen for row in ours if row.merchant == name),
            theirs_count=sum(row.merchant == name for row in theirs),
            theirs_fen=sum(row.amount_fen for row in theirs if row.merchant == name),
            matched=matched[name],
            breaks=broken[name],
            exceptions=exceptions.get(name, 0),
        )
        for name in sorted(names)
    ]
