"""Windows: the cut, netting, publication; settlements proposed and approved by two people."""

import csv
import hashlib
import io
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db, jobs
from gateway.audit import service as audit
from gateway.compliance.model import require_four_eyes
from gateway.errors import NotFound, Refused
from gateway.events import service as events
from gateway.events.model import EVERYBODY
from gateway.events.service import Change
from gateway.ledger import service as ledger
from gateway.ledger.model import Journal, Kind
from gateway.merchants import service as merchants
from gateway.settlement import store
from gateway.settlement.legs import settle_flows, told_of
from gateway.settlement.model import (
    HUB_PARTIES,
    NETTINGS,
    Account,
    Flow,
    LegState,
    Netting,
    Role,
    Settlement,
    SettlementLeg,
    SettlementState,
    State,
    Window,
    WindowState,
    bank_rows,
    cut_of,
    end_to_end_id,
    net_hash,
    net_lines,
    net_positions,
    window_after,
    window_id_of,
)
from gateway.values import InvalidInput, new_id


class WindowNotOpen(Refused):
    code = "WINDOW_NOT_OPEN"
    when = "the window is not in the state the action needs"
    zh = "窗口状态为 {state}"
    en = "the window is {state}"
    next_zh = "须为 {needed};未关的先关闭(closeSettlementWindow),有新提案的请批准新的"
    next_en = "needed: {needed}; close an open one (closeSettlementWindow); the newest draft counts"


class StaleNetHash(Refused):
    code = "STALE_NET_HASH"
    when = "approved figures differ from the current net"
    zh = "净额已重算,请重新核对"
    en = "the net was computed again; check it"
    next_zh = "请重新核对净额"
    next_en = "review the net"


async def ensure_window(tx: AsyncConnection, *, now: datetime) -> Window:
    """The open window; the first one is that of `now`'s week."""
    window = await store.open_window(tx)
    if window is None:
        await store.add_window(tx, _new_window(window_id_of(now), now))
        window = await store.open_window(tx)
    assert window, "one window is open"
    return window


async def close_window(
    tx: AsyncConnection, *, now: datetime, window_id: str | None = None, begun: bool = False
) -> Window:
    """The cut: close the open window and open the next, with all postings held off.

    Commit soon: postings wait for this transaction. Nothing else belongs into it.

    Args:
        window_id: Close this one only; None closes the one that is open.
        begun: Close none whose week has not begun.

    Returns:
        The closed window.

    Raises:
        WindowNotOpen: The window named is not the open one.
        NotFound: There is no such window.
        InvalidInput: The open window's week has not begun.
    """
    await db.lock_exclusive(tx, store.WINDOW_LOCK)
    window = await ensure_window(tx, now=now)
    if window_id not in (None, window.id):
        raise await _wrong_state(tx, str(window_id), {WindowState.OPEN})
    if begun and window.id > window_id_of(now):
        raise InvalidInput("window", "named: {window} has not begun", window=window.id)
    return await _cut(tx, window, now=now)


async def close_due_window(tx: AsyncConnection, *, now: datetime) -> Window | None:
    """Close the open window if its cut is due; for the worker."""
    await db.lock_exclusive(tx, store.WINDOW_LOCK)
    window = await store.open_window(tx)
    due = window is not None and now >= window.cuts_at
    return await _cut(tx, window, now=now) if window and due else None


async def net_window(tx: AsyncConnection, *, window_id: str, now: datetime) -> Window:
    """Sum and hash a closed window; again until it is settled, with the same result.

    Raises:
        NotFound: There is no such window.
        WindowNotOpen: It is open, or instructed already.
    """
    netable = {WindowState.CLOSED, WindowState.NETTED, WindowState.PUBLISHED}
    window = await _window_in(tx, window_id, netable)
    rows = await store.amounts(tx, window_id)
    net_positions(await store.flows(tx, store.obligations.c.window_id == window_id))
    values: dict[str, Any] = {
        "state": WindowState.NETTED,
        "net_hash": net_hash(rows),
        "count": len(rows),
        "sum_fen": sum(fen for _, fen in rows),
    }
    await store.update_window(tx, window_id, **values)
    return replace(window, **values)


async def publish_window(tx: AsyncConnection, *, window_id: str, now: datetime) -> Window:
    """Publish a netted window: its statements are out. Publishing twice is publishing once.

    Raises:
        NotFound, WindowNotOpen: It is not netted.
    """
    window = await _window_in(tx, window_id, {WindowState.NETTED, WindowState.PUBLISHED})
    await store.update_window(tx, window_id, state=WindowState.PUBLISHED)
    if window.state is not WindowState.PUBLISHED:
        body = {"net_hash": window.net_hash, "count": window.count, "sum_fen": window.sum_fen}
        statement = body | {"positions": await positions(tx, window_id=window_id)}
        await audit.record(
            tx,
            kind="settlement.published",
            subject=window_id,
            actor="gateway",
            body=statement,
            now=now,
        )
        data = {"netHash": window.net_hash}
        told = Change("settlement.published", window_id, {EVERYBODY}, data)
        await events.record(tx, told, now=now)
    return replace(window, state=WindowState.PUBLISHED)


async def windows(tx: AsyncConnection) -> list[Window]:
    """All windows, oldest first."""
    return await store.find_windows(tx)


async def window(tx: AsyncConnection, window_id: str) -> Window:
    """One window.

    Raises:
        NotFound: There is none.
    """
    found = await store.find_window(tx, window_id)
    if found is None:
        raise NotFound(id=window_id)
    return found


async def positions(tx: AsyncConnection, *, window_id: str) -> dict[str, int]:
    """What each party of a window is owed, in fen; negative: it owes. Sums to zero."""
    return net_positions(await store.flows(tx, store.obligations.c.window_id == window_id))


async def payments(
    tx: AsyncConnection, *, window_id: str, model: str = Netting.BILATERAL_NET
) -> list[Flow]:
    """What a window's netting comes to by a model; any model may be asked, as a what-if."""
    found = await store.flows(tx, store.obligations.c.window_id == window_id)
    return NETTINGS[Netting(model)](found)


async def propose_settlement(
    tx: AsyncConnection,
    *,
    window_id: str,
    actor: str,
    now: datetime,
    model: str = Netting.BILATERAL_NET,
) -> Settlement:
    """Propose the payments of a published window.

    Returns:
        The draft. Proposing the same net again returns the draft there is, with its proposer; a
        draft of another net is superseded.

    Raises:
        NotFound, WindowNotOpen: The window is not published.
    """
    window = await _window_in(tx, window_id, {WindowState.PUBLISHED})
    assert window.net_hash, "a published window is netted"
    earlier = await store.find_settlements(tx, store.settlements.c.window_id == window_id)
    for draft in earlier:
        if draft.state is SettlementState.DRAFT:
            if (draft.net_hash, draft.model) == (window.net_hash, model):
                return draft
            await store.update_settlement(tx, draft.id, state=SettlementState.SUPERSEDED)
    number = f".{len(earlier) + 1}" if earlier else ""
    flows = await payments(tx, window_id=window_id, model=model)
    settlement = Settlement(
        id=f"set_{window_id.removeprefix('win_')}{number}",
        window_id=window_id,
        model=Netting(model),
        state=SettlementState.DRAFT,
        net_hash=window.net_hash,
        total_fen=sum(flow.fen for flow in flows),
        proposed_by=actor,
        proposed_at=now,
    )
    await store.add_settlement(tx, settlement)
    await store.add_legs(tx, [_leg(settlement, seq, flow) for seq, flow in enumerate(flows, 1)])
    return settlement


async def approve_settlement(
    tx: AsyncConnection,
    *,
    settlement_id: str,
    net_hash: str,
    actor: str,
    limit_fen: int,
    now: datetime,
) -> Settlement:
    """Approve a draft: positions move to the settlement, instructions and notices go out.

    Args:
        net_hash: What the approver has seen and approves.
        limit_fen: The most the approver may approve: all payments together.

    Raises:
        NotFound: There is no such settlement.
        WindowNotOpen: It is not a draft of a published window.
        StaleNetHash: The window's net is another now, or the approver saw another.
        FourEyesRequired: The approver proposed it, or has too low a limit.
    """
    settlement = await store.lock_settlement(tx, settlement_id)
    if settlement is None:
        raise NotFound(id=settlement_id)
    if settlement.state is not SettlementState.DRAFT:
        raise await _wrong_state(tx, settlement.window_id, {WindowState.PUBLISHED})
    await _window_in(tx, settlement.window_id, {WindowState.PUBLISHED})
    current = _hash(await store.amounts(tx, settlement.window_id))
    if {net_hash, settlement.net_hash} != {current}:
        raise StaleNetHash(old_hash=net_hash, new_hash=current)
    require_four_eyes(
        proposer=settlement.proposed_by,
        approver=actor,
        amount_fen=settlement.total_fen,
        limit_fen=limit_fen,
    )
    approved = replace(settlement, approved_by=actor, approved_at=now)
    body = {"net_hash": current, "total_fen": settlement.total_fen, "limit_fen": limit_fen}
    await audit.record(
        tx,
        kind="settlement.approved",
        subject=settlement_id,
        actor=actor,
        body=body | {"proposed_by": settlement.proposed_by},
        now=now,
    )
    legs = await store.find_legs(tx, store.legs.c.settlement_id == settlement_id)
    await _post_net(tx, approved, now=now)
    return await _instruct(tx, approved, legs, now=now)


async def settlement(tx: AsyncConnection, settlement_id: str) -> Settlement:
    """One settlement.

    Raises:
        NotFound: There is none.
    """
    where = store.settlements.c.settlement_id == settlement_id
    found = await store.find_settlements(tx, where)
    if not found:
        raise NotFound(id=settlement_id)
    return found[0]


async def settlements(tx: AsyncConnection, *, window_id: str | None = None) -> list[Settlement]:
    """Settlements, oldest first, superseded ones included."""
    where = [store.settlements.c.window_id == window_id] if window_id else []
    return await store.find_settlements(tx, *where)


async def bank_csv(tx: AsyncConnection, settlement_id: str) -> str:
    """The bank's file of an approved settlement, as it was approved.

    Raises:
        NotFound: There is no such settlement, or it is not approved.
    """
    text = await store.read_bank_csv(tx, settlement_id)
    if text is None:
        raise NotFound(id=settlement_id)
    return text


def write_csv(rows: Sequence[Sequence[str]]) -> str:
    """Rows as CSV with line feeds: the same rows give the same bytes."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _hash(rows: Sequence[tuple[str, int]]) -> str:
    return net_hash(rows)


async def _cut(tx: AsyncConnection, window: Window, *, now: datetime) -> Window:
    """Close one window and open the next, under the exclusive lock."""
    values = {"state": WindowState.CLOSED, "open_slot": None, "closed_at": now}
    await store.update_window(tx, window.id, **values)
    await store.add_window(tx, _new_window(window_after(window.id, now=now), now))
    told = Change("settlement.window.closed", window.id, {EVERYBODY}, {})
    await events.record(tx, told, now=now)
    return replace(window, state=WindowState.CLOSED, closed_at=now)


def _new_window(window_id: str, now: datetime) -> Window:
    return Window(window_id, WindowState.OPEN, opened_at=now, cuts_at=cut_of(window_id))


def _leg(settlement: Settlement, seq: int, flow: Flow) -> SettlementLeg:
    return SettlementLeg(
        id=new_id("ins"),
        settlement_id=settlement.id,
        seq=seq,
        end_to_end_id=end_to_end_id(settlement.id, seq),
        payer=flow.payer,
        payee=flow.payee,
        amount_fen=flow.fen,
        state=LegState.DRAFT,
    )


async def _window_in(
    tx: AsyncConnection, window_id: str, states: Collection[WindowState]
) -> Window:
    found = await store.find_window(tx, window_id, lock=True)
    if found is None or found.state not in states:
        raise await _wrong_state(tx, window_id, states)
    return found


async def _wrong_state(
    tx: AsyncConnection, window_id: str, needed: Collection[WindowState]
) -> Refused:
    found = await store.find_window(tx, window_id)
    if found is None:
        return NotFound(id=window_id)
    return WindowNotOpen(window=window_id, state=found.state, needed=sorted(needed))


async def _post_net(tx: AsyncConnection, settlement: Settlement, *, now: datetime) -> None:
    """Move the window's obligations and positions to the settlement."""
    o = store.obligations.c
    in_window = (o.window_id == settlement.window_id, o.state == State.IN_WINDOW)
    lines = net_lines(settlement.id, net_positions(await store.flows(tx, *in_window)))
    moved = {"state": State.IN_SETTLEMENT, "settlement_id": settlement.id}
    await store.move_obligations(tx, *in_window, **moved)
    if lines:
        journal = Journal(
            kind=Kind.NET,
            op_key=f"{settlement.id}:net",
            lines=lines,
            effective_at=now,
            actor=settlement.proposed_by,
            approver=settlement.approved_by,
            cause_id=settlement.id,
        )
        await ledger.post(tx, [journal], now=now)


async def _instruct(
    tx: AsyncConnection, settlement: Settlement, legs: Sequence[SettlementLeg], *, now: datetime
) -> Settlement:
    """Make the instructions: the bank's file, and one notice job per merchant and leg."""
    operator = (await merchants.operator(tx)).id
    text = write_csv(bank_rows(legs, await _accounts(tx, legs, operator)))
    state = SettlementState.INSTRUCTED if legs else SettlementState.SETTLED
    done = replace(
        settlement, state=state, bank_csv_sha256=hashlib.sha256(text.encode()).hexdigest()
    )
    await store.update_settlement(
        tx,
        settlement.id,
        state=state,
        approved_by=settlement.approved_by,
        approved_at=settlement.approved_at,
        bank_csv=text,
        bank_csv_sha256=done.bank_csv_sha256,
    )
    await store.update_window(tx, settlement.window_id, state=WindowState(state.value))
    await store.update_legs(
        tx, store.legs.c.settlement_id == settlement.id, state=LegState.APPROVED
    )
    sides = [
        {"leg_id": leg.id, "role": role, "merchant_id": operator if side in HUB_PARTIES else side}
        for leg in legs
        for role, side in ((Role.DEBTOR, leg.payer), (Role.CREDITOR, leg.payee))
    ]
    await store.add_parties(tx, sides)
    for leg_id, merchant in sorted({(side["leg_id"], side["merchant_id"]) for side in sides}):
        await jobs.enqueue(
            tx,
            name="settlement_notice",
            key=f"{leg_id}:{merchant}",
            payload={"leg_id": leg_id, "merchant": merchant},
            lane=merchant,
        )
    told = [told_of(leg, "instructed", operator) for leg in legs]
    await events.record(tx, *told, now=now)
    await _settle_even(tx, done, legs)
    return done


async def _settle_even(
    tx: AsyncConnection, settlement: Settlement, legs: Sequence[SettlementLeg]
) -> None:
    """What nets to nothing needs no payment and is settled with the approval."""
    o = store.obligations.c
    flows = await store.flows(tx, o.settlement_id == settlement.id)
    even = flows
    if legs:
        paid = {frozenset((leg.payer, leg.payee)) for leg in legs}
        bilateral = settlement.model is Netting.BILATERAL_NET
        even = [
            flow for flow in flows if bilateral and frozenset((flow.payer, flow.payee)) not in paid
        ]
    await settle_flows(tx, settlement.id, even)


async def _accounts(
    tx: AsyncConnection, legs: Sequence[SettlementLeg], operator: str
) -> dict[str, Account]:
    """Where every party of the legs is paid; the operator's account for the hub's own."""
    parties = {party for leg in legs for party in (leg.payer, leg.payee)}
    known = await merchants.get_many(tx, {operator, *parties} - HUB_PARTIES)
    accounts = {}
    for party in sorted(parties):
        merchant = known[operator if party in HUB_PARTIES else party]
        at_bank = merchant.settlement_account or {}
        accounts[party] = Account(
            merchant.name_zh, str(at_bank.get("bank_code", "")), str(at_bank.get("number", ""))
        )
    return accounts
