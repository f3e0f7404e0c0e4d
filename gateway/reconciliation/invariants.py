"""B1 to B5 of the contracts, asked of the database."""

from collections import Counter
from collections.abc import Iterable

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.ledger.model import Result
from gateway.reconciliation import store
from gateway.reconciliation.model import (
    CLOSED_BY_FACT,
    CLOSED_STATES,
    Break,
    ResolutionState,
    Run,
    RunState,
    Side,
    Status,
    inputs_hash,
)

SHOWN = 5  # violations named in a result


async def check(tx: AsyncConnection) -> list[Result]:
    """Every invariant of reconciliation, in order."""
    runs = await store.find_runs(tx, store.runs.c.matched_at.is_not(None))
    breaks = await store.find_breaks(tx)
    return [
        await _population(tx, runs),
        await _once(tx, breaks),
        await _explained(tx, runs, breaks),
        await _locked(tx, runs),
        await _decided(tx, breaks),
    ]


def _result(id: str, title: str, violations: Iterable[str]) -> Result:
    found = list(violations)
    return Result(id, title, not found, "; ".join(found[:SHOWN]))


async def _population(tx: AsyncConnection, runs: list[Run]) -> Result:
    """What a run counted is what its rows are now: matched, broken and expected, per side."""
    counts, sums = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    wrong: list[str] = []
    for run_id, side, status, count, fen in await store.totals(tx):
        counts[run_id, side] += count
        sums[run_id, side] += fen
        if status == Status.STAGED:
            wrong.append(f"{run_id}: {count} rows of {side} are nowhere")
    for run in runs:
        found = [(counts[run.id, side], sums[run.id, side]) for side in Side]
        said = [(run.ours_count, run.ours_fen), (run.theirs_count, run.theirs_fen)]
        if found != said:
            wrong.append(f"{run.id} counted {said}, has {found}")
    return _result("B1", "matched, breaks and expected make the population", wrong)


async def _once(tx: AsyncConnection, breaks: list[Break]) -> Result:
    """Every match has one row a side; every break has exactly its rows."""
    wrong: list[str] = []
    sides = Counter[tuple[str, int, str]]()
    placed = await store.placements(tx)
    owned = Counter[tuple[str, str, str]]()
    for run_id, side, row_id, match_no, break_id in placed:
        if match_no is not None:
            sides[run_id, match_no, side] += 1
        if break_id is not None:
            owned[break_id, side, row_id] += 1
    pairs = Counter((run_id, number) for run_id, number, _ in sides)
    wrong += [f"{run_id} match {number}" for (run_id, number), n in pairs.items() if n != 2]
    wrong += [f"{run_id} match {number}" for (run_id, number, _), n in sides.items() if n != 1]
    named = Counter[tuple[str, str, str]](
        (each.id, str(side), row_id)
        for each in breaks
        for side, ids in ((Side.OURS, each.ours_ids), (Side.THEIRS, each.theirs_ids))
        for row_id in ids
    )
    wrong += [f"{key[0]} and row {key[2]}" for key in (owned - named) + (named - owned)]
    return _result("B2", "each row is in one match, break or EXPECTED", wrong)


async def _explained(tx: AsyncConnection, runs: list[Run], breaks: list[Break]) -> Result:
    """Ours − theirs is what breaks and expected rows sum to; matches contribute nothing."""
    apart = Counter[str]()
    for each in breaks:
        apart[each.run_id] += each.ours_fen - each.theirs_fen
    for run_id, _, status, _, fen in await store.totals(tx):
        if status == Status.EXPECTED:
            apart[run_id] += fen
    wrong = [
        f"{run.id}: {run.ours_fen - run.theirs_fen} apart, {apart[run.id]} explained"
        for run in runs
        if run.ours_fen - run.theirs_fen != apart[run.id]
    ]
    return _result("B3", "the breaks explain the difference", wrong)


async def _locked(tx: AsyncConnection, runs: list[Run]) -> Result:
    """A signed-off run still has the inputs it was matched on."""
    r = store.rows.c
    wrong: list[str] = []
    for run in runs:
        if run.state is RunState.LOCKED:
            sides = [await store.find_rows(tx, r.run_id == run.id, r.side == side) for side in Side]
            if inputs_hash(sides[0], sides[1], run.rules) != run.inputs_hash:
                wrong.append(f"{run.id} has changed")
    return _result("B4", "a locked run does not change", wrong)


async def _decided(tx: AsyncConnection, breaks: list[Break]) -> Result:
    """A closed break names an approved decision, which posted if it moved money."""
    approved = {
        each.id: each
        for each in await store.find_resolutions(
            tx, store.resolutions.c.state == ResolutionState.APPROVED
        )
    }
    wrong: list[str] = []
    for each in breaks:
        if each.code in CLOSED_BY_FACT:
            continue
        if each.state in CLOSED_STATES:
            decision = approved.get(each.resolution_id or "")
            if decision is None or bool(decision.flows) != (decision.journal_id is not None):
                wrong.append(f"{each.id} was closed without a decision")
        elif each.closed_at is not None:
            wrong.append(f"{each.id} is closed and open")
    return _result("B5", "no break closes without a decision", wrong)
