"""A partner's no that another heard: told to who waited meanwhile, and to the same key again."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.errors import PartnerRejected, PartnerUnavailable, published
from gateway.ports import Outcome
from gateway.redemption import answers, store
from gateway.redemption.model import CallState, Redemption, State, Step

_RELEASED = frozenset({State.RELEASED, State.RELEASING})
_UNDONE = {
    Step.HOLD: _RELEASED,
    Step.CONFIRM: _RELEASED,
    Step.CANCEL: frozenset({State.COMMITTED, State.LATE_CONFIRMED, State.FULFILLED}),
}
_NO = (CallState.REJECTED, CallState.NOT_SENT)


async def raise_again(tx: AsyncConnection, redemption: Redemption, *steps: Step) -> None:
    """Nothing, unless who asked first was told that one of the steps was refused.

    Who was told IN_DOUBT was given the redemption, and finds it again, however it has ended.

    Args:
        steps: What the caller asked for, in order.

    Raises:
        PartnerRejected, PartnerUnavailable: As the first time, marked as replayed.
    """
    refusal = await _first(tx, redemption, steps)
    if refusal is not None:
        refusal.replayed = True
        raise refusal


async def heard(database: db.Database, redemption: Redemption, *steps: Step) -> Redemption:
    """The redemption, as it came back to who asked for the steps.

    A worker that took it over may have heard the no: it is told to who asked first, too, as it
    will be told again to its key.

    Raises:
        PartnerRejected, PartnerUnavailable: One of the steps was refused.
    """
    if any(redemption.state in _UNDONE[step] for step in steps):
        async with database.reading() as tx:
            refusal = await _first(tx, redemption, steps)
        if refusal is not None:
            raise refusal
    return redemption


async def _first(
    tx: AsyncConnection, redemption: Redemption, steps: Sequence[Step]
) -> PartnerRejected | PartnerUnavailable | None:
    """What the first of the steps that was refused was refused with."""
    steps = tuple(step for step in steps if redemption.state in _UNDONE[step])
    calls = await store.call_log(tx, redemption.id) if steps else []
    for step in steps:
        first = _told(calls, redemption, step)
        if first in _NO:
            return await _refusal(tx, redemption, step, first)
        if first is not CallState.ANSWERED:
            break
    return None


def _told(calls: Sequence[sa.Row[Any]], redemption: Redemption, step: Step) -> CallState | None:
    """How the call ended whose end the caller was told; none if there was none, or it is unsure."""
    op_key = redemption.op_key(step)
    tries = [row for row in calls if (row.op_key, row.verb) == (op_key, str(step))]
    ends = [CallState(row.state) for row in sorted(tries, key=lambda row: int(row.attempt))]
    if step is Step.CANCEL:  # Refused, it may be asked for again: under the same op key.
        while ends[1:] and ends[0] in _NO:
            del ends[0]
    return ends[0] if ends else None


async def _refusal(
    tx: AsyncConnection, redemption: Redemption, step: Step, end: CallState
) -> PartnerRejected | PartnerUnavailable:
    if end is CallState.NOT_SENT:
        return answers.unreached(redemption)
    (known,) = await db.read(tx, store.ask_facts(redemption.op_key(step)))
    row = next(row for row in known if row.outcome == Outcome.REJECTED)
    leaves = {leaf.code: leaf for leaf in published(PartnerRejected)}
    leaf = leaves.get(row.body["reason"], PartnerRejected)
    assert issubclass(leaf, PartnerRejected)
    return leaf(**row.body.get("context", {"merchant": redemption.merchant_id}))
