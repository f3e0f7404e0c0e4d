"""Settlement legs after approval: notices, signed answers, booking."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.audit import service as audit
from gateway.errors import NotFound
from gateway.events import service as events
from gateway.events.service import Change
from gateway.ledger import service as ledger
from gateway.ledger.model import Journal, Kind
from gateway.merchants import service as merchants
from gateway.ports import NoticeReceipt, SettlementNotice
from gateway.settlement import room, store
from gateway.settlement.model import (
    HUB_PARTIES,
    Flow,
    LegParty,
    LegState,
    Netting,
    Role,
    Settlement,
    SettlementLeg,
    SettlementState,
    State,
    WindowState,
    booked_lines,
)


async def legs(
    tx: AsyncConnection,
    *,
    settlement_id: str | None = None,
    merchant: str | None = None,
    states: Sequence[LegState] | None = None,
) -> list[SettlementLeg]:
    """Legs with their notices and answers, by settlement and sequence.

    Args:
        merchant: Only legs it is told about: its own, and the hub's if it is the operator.
            Drafts are told to nobody.
    """
    where: list[sa.ColumnElement[bool]] = []
    if settlement_id is not None:
        where.append(store.legs.c.settlement_id == settlement_id)
    if merchant is not None:
        sides = sa.select(store.leg_parties.c.leg_id)
        where.append(
            store.legs.c.leg_id.in_(sides.where(store.leg_parties.c.merchant_id == merchant))
        )
    if states is not None:
        where.append(store.legs.c.state.in_(states))
    return await store.find_legs(tx, *where)


async def leg(tx: AsyncConnection, leg_id: str) -> SettlementLeg:
    """One leg.

    Raises:
        NotFound: There is none.
    """
    found = await store.find_legs(tx, store.legs.c.leg_id == leg_id)
    if not found:
        raise NotFound(id=leg_id)
    return found[0]


async def notice(tx: AsyncConnection, leg_id: str) -> SettlementNotice:
    """What merchants are told about a leg.

    Raises:
        NotFound: There is no such leg.
    """
    found = await leg(tx, leg_id)
    settlement = await _settlement(tx, found.settlement_id)
    return SettlementNotice(
        settlement_id=found.settlement_id,
        leg_id=leg_id,
        payer=found.payer,
        payee=found.payee,
        amount_fen=found.amount_fen,
        net_hash=settlement.net_hash,
    )


async def record_notice(
    tx: AsyncConnection, *, leg_id: str, merchant: str, receipt: NoticeReceipt, at: datetime
) -> None:
    """Keep a merchant's receipt of a notice; the first one counts.

    Raises:
        NotFound: The merchant is no party of the leg.
    """
    roles = [side.role for side in await _sides(tx, leg_id, merchant) if not side.noticed_at]
    if roles:
        values = {"receipt_ref": receipt.receipt_ref, "noticed_at": at}
        await store.update_party(tx, leg_id, roles=roles, **values)


async def acknowledge_leg(
    tx: AsyncConnection,
    *,
    leg_id: str,
    merchant: str,
    client_id: str,
    signature: str,
    now: datetime,
) -> SettlementLeg:
    """Keep a merchant's signed answer: its debtor has sent the payment, its creditor received it.

    A creditor's receipt books the leg. The first answer of a side counts.

    Args:
        signature: A detached JWS over the leg, which the caller has verified.

    Raises:
        NotFound: The merchant is no party of an instructed leg.
    """
    roles = [side.role for side in await _sides(tx, leg_id, merchant) if not side.acknowledged_at]
    if Role.CREDITOR in roles:
        await store.lock_settlement(tx, (await leg(tx, leg_id)).settlement_id)
    if roles:
        values = {"ack_client_id": client_id, "ack_signature": signature, "acknowledged_at": now}
        await store.update_party(tx, leg_id, roles=roles, **values)
        body = {"merchant": merchant, "roles": [str(role) for role in roles]}
        await audit.record(
            tx,
            kind="leg.acknowledged",
            subject=leg_id,
            actor=client_id,
            body=body | {"signature": signature},
            now=now,
        )
    if Role.DEBTOR in roles:
        sent = (store.legs.c.leg_id == leg_id, store.legs.c.state == LegState.APPROVED)
        if await store.update_legs(tx, *sent, state=LegState.SENT):
            await _tell(tx, await leg(tx, leg_id), "sent", now=now)
    if Role.CREDITOR in roles:
        await book_leg(tx, leg_id=leg_id, actor=client_id, now=now)
    return await leg(tx, leg_id)


async def book_leg(tx: AsyncConnection, *, leg_id: str, actor: str, now: datetime) -> SettlementLeg:
    """Record that a payment has arrived: its obligations are settled, cover is free again.

    Booking twice is booking once. The last leg settles the settlement and its window.

    Raises:
        NotFound: There is no such leg, or it is not instructed.
    """
    found = await leg(tx, leg_id)
    settlement = await store.lock_settlement(tx, found.settlement_id)
    assert settlement, "a leg is of a settlement"
    unbooked = store.legs.c.state.in_((LegState.APPROVED, LegState.SENT))
    values = {"state": LegState.BOOKED, "booked_at": now}
    if not await store.update_legs(tx, store.legs.c.leg_id == leg_id, unbooked, **values):
        if found.state is LegState.DRAFT:
            raise NotFound(id=leg_id)
        return found
    flow = Flow(found.payer, found.payee, found.amount_fen)
    journal = Journal(
        kind=Kind.BOOKED,
        op_key=f"{leg_id}:booked",
        lines=booked_lines(settlement.id, flow),
        effective_at=now,
        actor=actor,
        cause_id=leg_id,
    )
    await ledger.post(tx, [journal], now=now)
    of_settlement = store.legs.c.settlement_id == settlement.id
    last = not await store.find_legs(tx, of_settlement, unbooked)
    await _settle_leg(tx, settlement, flow, last=last)
    state = SettlementState.SETTLED if last else SettlementState.PARTIAL
    await store.update_settlement(tx, settlement.id, state=state)
    await store.update_window(tx, settlement.window_id, state=WindowState(state.value))
    await _tell(tx, found, "booked", now=now)
    if last:
        await _tell_settled(tx, settlement, now=now)
    return replace(found, state=LegState.BOOKED, booked_at=now)


def told_of(leg: SettlementLeg, word: str, operator: str) -> Change:
    """The event of a leg's change, for its parties; the hub's own are the operator's."""
    concerned = {operator if party in HUB_PARTIES else party for party in (leg.payer, leg.payee)}
    data = {"settlement": leg.settlement_id, "payer": leg.payer, "payee": leg.payee}
    return Change(f"settlement.leg.{word}", leg.id, concerned, data | {"amountFen": leg.amount_fen})


async def _tell(tx: AsyncConnection, found: SettlementLeg, word: str, *, now: datetime) -> None:
    operator = (await merchants.operator(tx)).id
    await events.record(tx, told_of(found, word, operator), now=now)


async def _tell_settled(tx: AsyncConnection, settlement: Settlement, *, now: datetime) -> None:
    operator = (await merchants.operator(tx)).id
    paid = await store.find_legs(tx, store.legs.c.settlement_id == settlement.id)
    parties = {party for each in paid for party in (each.payer, each.payee)}
    concerned = {operator if party in HUB_PARTIES else party for party in parties}
    data = {"window": settlement.window_id}
    change = Change("settlement.booked", settlement.id, concerned, data)
    await events.record(tx, change, now=now)


async def settle_flows(tx: AsyncConnection, settlement_id: str, flows: Sequence[Flow]) -> None:
    """Settle the obligations behind some flows of a settlement, and free their cover."""
    o = store.obligations.c
    columns: dict[str, Counter[str]] = defaultdict(Counter)
    for flow in flows:
        pair = (o.payer == flow.payer, o.payee == flow.payee, o.state == State.IN_SETTLEMENT)
        await store.move_obligations(
            tx, o.settlement_id == settlement_id, *pair, state=State.SETTLED
        )
        columns[flow.payer].update(debit_fen=-flow.fen)
        columns[flow.payee].update(credit_fen=-flow.fen)
    await room.move_cover(tx, columns)


async def _settle_leg(
    tx: AsyncConnection, settlement: Settlement, paid: Flow, *, last: bool
) -> None:
    """Obligations of the pair paid; of a multilateral settlement all, with its last payment."""
    o = store.obligations.c
    where = [o.settlement_id == settlement.id, o.state == State.IN_SETTLEMENT]
    if settlement.model is Netting.MULTILATERAL_NET:
        flows = await store.flows(tx, *where) if last else []
    else:
        directions = [(o.payer == paid.payer) & (o.payee == paid.payee)]
        if settlement.model is Netting.BILATERAL_NET:
            directions.append((o.payer == paid.payee) & (o.payee == paid.payer))
        flows = await store.flows(tx, *where, sa.or_(*directions))
    await settle_flows(tx, settlement.id, flows)


async def _settlement(tx: AsyncConnection, settlement_id: str) -> Settlement:
    where = store.settlements.c.settlement_id == settlement_id
    return (await store.find_settlements(tx, where))[0]


async def _sides(tx: AsyncConnection, leg_id: str, merchant: str) -> list[LegParty]:
    sides = [side for side in (await leg(tx, leg_id)).parties if side.merchant_id == merchant]
    if not sides:
        raise NotFound(id=leg_id)
    return sides
