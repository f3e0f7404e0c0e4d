"""W1 to W7 of the contracts, asked of the database."""

from collections import Counter
from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.ledger import service as ledger
from gateway.ledger.model import HUB, Result
from gateway.settlement import store
from gateway.settlement.model import (
    Flow,
    SettlementState,
    State,
    WindowState,
    net_hash,
    net_positions,
)

SHOWN = 5  # violations named in a result


async def check(tx: AsyncConnection) -> list[Result]:
    """Every invariant of settlement, in order."""
    return [
        *await standing(tx),
        await _membership(tx),
        await _cut(tx),
        await _legs(tx),
        await _settled(tx),
        await _hash(tx),
        await _corrections(tx),
    ]


async def standing(tx: AsyncConnection) -> list[Result]:
    """W1, which stays on in production."""
    return [await _positions(tx)]


def _result(id: str, title: str, violations: Iterable[str]) -> Result:
    found = list(violations)
    return Result(id, title, not found, "; ".join(found[:SHOWN]))


async def _positions(tx: AsyncConnection) -> Result:
    """The ledger's positions and reservations are those of the tables; both sum to zero."""
    o, r = store.obligations.c, store.reservations.c
    unsettled = o.state.in_((State.ACCRUED, State.IN_WINDOW))
    positions = net_positions(await store.flows(tx, unsettled))
    everybody = sa.union(sa.select(o.payer), sa.select(o.payee))
    parties = [str(party) for (party,) in await tx.execute(everybody)]
    in_ledger = await ledger.balances(tx, HUB, [f"POS:{party}" for party in parties])
    wrong = [
        f"POS:{party} is {-in_ledger[f'POS:{party}']}, obligations say {positions.get(party, 0)}"
        for party in sorted(parties)
        if -in_ledger[f"POS:{party}"] != positions.get(party, 0)
    ]
    open_holds = sa.select(r.issuer, sa.func.sum(r.settlement_fen + r.fee_fen))
    query = open_holds.where(r.state == "RESERVED").group_by(r.issuer)
    reserved = {issuer: int(fen) for issuer, fen in await tx.execute(query)}
    kept = {row.merchant_id: row for row in await tx.execute(sa.select(store.cover))}
    covers = await ledger.balances(tx, HUB, [f"RSV:{merchant}" for merchant in kept])
    owed, to_come = await _cover_columns(tx)
    for merchant, row in sorted(kept.items()):
        said = (row.reserved_fen, covers[f"RSV:{merchant}"], row.debit_fen, row.credit_fen)
        holds = reserved.get(merchant, 0)
        counted = (holds, holds, owed[merchant], to_come[merchant])
        if said != counted:
            wrong.append(f"cover of {merchant} is {said}, counted {counted}")
    return _result("W1", "positions sum to zero, ledger and obligations agree", wrong)


async def _cover_columns(tx: AsyncConnection) -> tuple[Counter[str], Counter[str]]:
    """What cover rows must say: owed and not settled; to come, clearable and not settled."""
    o = store.obligations.c
    owed, to_come = Counter[str](), Counter[str]()
    for flow in await store.flows(tx, o.state != State.SETTLED):
        owed[flow.payer] += flow.fen
    for flow in await store.flows(tx, o.state.in_((State.IN_WINDOW, State.IN_SETTLEMENT))):
        to_come[flow.payee] += flow.fen
    return owed, to_come


async def _membership(tx: AsyncConnection) -> Result:
    o, s = store.obligations.c, store.settlements.c
    joined = store.obligations.outerjoin(
        store.settlements, s.settlement_id == o.settlement_id
    ).outerjoin(store.windows, store.windows.c.window_id == o.window_id)
    other_window = o.settlement_id.is_not(None) & (
        s.window_id.is_(None) | (s.window_id != o.window_id)
    )
    no_window = o.window_id.is_not(None) & store.windows.c.window_id.is_(None)
    query = sa.select(o.obligation_id).select_from(joined).where(other_window | no_window)
    wrong = [row.obligation_id for row in await tx.execute(query.limit(SHOWN))]
    live = (SettlementState.INSTRUCTED, SettlementState.PARTIAL, SettlementState.SETTLED)
    twice = sa.select(s.window_id).where(s.state.in_(live)).group_by(s.window_id)
    more = await tx.execute(twice.having(sa.func.count() > 1))
    wrong += [f"{row.window_id} is settled twice" for row in more]
    return _result("W2", "an obligation is in one window and one settlement at most", wrong)


async def _cut(tx: AsyncConnection) -> Result:
    """What a window held when it was netted is what it holds now."""
    wrong = []
    for window in await store.find_windows(tx):
        if window.count is not None:
            rows = await store.amounts(tx, window.id)
            now = (len(rows), sum(fen for _, fen in rows))
            if now != (window.count, window.sum_fen):
                wrong.append(f"{window.id} had {(window.count, window.sum_fen)}, has {now}")
    open_now = [each for each in await store.find_windows(tx) if each.state is WindowState.OPEN]
    if len(open_now) > 1:
        wrong.append(f"{len(open_now)} windows are open")
    return _result("W3", "nothing entered a window after its cut", wrong)


async def _legs(tx: AsyncConnection) -> Result:
    wrong = []
    for settlement in await store.find_settlements(tx):
        if settlement.state is SettlementState.SUPERSEDED:
            continue
        legs = await store.find_legs(tx, store.legs.c.settlement_id == settlement.id)
        paid = net_positions([Flow(leg.payer, leg.payee, leg.amount_fen) for leg in legs])
        found = await store.flows(tx, store.obligations.c.window_id == settlement.window_id)
        for party, fen in net_positions(found).items():
            if paid.pop(party, 0) != fen:
                wrong.append(f"{settlement.id}: legs of {party} are not its net {fen}")
        wrong += [
            f"{settlement.id}: {party} has legs and no net" for party, fen in paid.items() if fen
        ]
    return _result("W4", "the legs of a participant are its net", wrong)


async def _settled(tx: AsyncConnection) -> Result:
    """A settled settlement's accounts are zero; before, they are what its unbooked legs move."""
    wrong = []
    for settlement in await store.find_settlements(tx):
        if settlement.approved_by is None:
            continue
        legs = await store.find_legs(tx, store.legs.c.settlement_id == settlement.id)
        unpaid = Counter[str]()
        for leg in legs:
            fen = 0 if leg.booked_at else leg.amount_fen
            unpaid[leg.payee] -= fen
            unpaid[leg.payer] += fen
        accounts = [f"SETL:{settlement.id}:{party}" for party in unpaid]
        found = await ledger.balances(tx, HUB, accounts)
        wrong += [
            f"SETL:{settlement.id}:{party} is {found[f'SETL:{settlement.id}:{party}']}, not {fen}"
            for party, fen in unpaid.items()
            if found[f"SETL:{settlement.id}:{party}"] != fen
        ]
        if settlement.state is SettlementState.SETTLED and any(unpaid.values()):
            wrong.append(f"{settlement.id} is settled with unpaid legs")
    return _result("W5", "a settled settlement leaves nothing on its accounts", wrong)


async def _hash(tx: AsyncConnection) -> Result:
    wrong = [
        f"{window.id} nets to another hash"
        for window in await store.find_windows(tx)
        if window.net_hash and net_hash(await store.amounts(tx, window.id)) != window.net_hash
    ]
    return _result("W6", "netting again gives the same hash", wrong)


async def _corrections(tx: AsyncConnection) -> Result:
    """Reversals swap the parties, never exceed what they correct, and never come before it."""
    o = store.obligations.c
    base = store.obligations.alias("original")
    joined = store.obligations.join(base, o.corrects_id == base.c.obligation_id)
    swapped = (o.payer == base.c.payee) & (o.payee == base.c.payer)
    wrong_way = (o.type == "REVERSAL") & sa.not_(swapped)
    too_early = o.window_id < base.c.window_id
    query = sa.select(o.obligation_id).select_from(joined).where(wrong_way | too_early)
    wrong = [row.obligation_id for row in await tx.execute(query.limit(SHOWN))]
    too_much = (
        sa.select(o.corrects_id)
        .select_from(joined)
        .where(o.type == "REVERSAL")
        .group_by(o.corrects_id, base.c.amount_fen)
        .having(sa.func.sum(o.amount_fen) > base.c.amount_fen)
    )
    wrong += [f"{row.corrects_id} is reversed beyond itself" for row in await tx.execute(too_much)]
    return _result("W7", "corrections name their row and land in an open window", wrong)
