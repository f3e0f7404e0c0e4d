"""The no that a partner gave, told again to who asks again with the same key."""

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.errors import PartnerRejected, PartnerUnavailable, published
from gateway.ports import Outcome
from gateway.redemption import answers, store
from gateway.redemption.model import Redemption, State, Step

_UNDONE = {
    Step.HOLD: frozenset({State.RELEASED, State.RELEASING}),
    Step.CONFIRM: frozenset({State.RELEASED, State.RELEASING}),
    Step.CANCEL: frozenset({State.COMMITTED, State.LATE_CONFIRMED, State.FULFILLED}),
}


async def raise_again(tx: AsyncConnection, redemption: Redemption, *steps: Step) -> None:
    """Nothing, unless what the caller asked for was refused by the answer to one of its steps.

    Raises:
        PartnerRejected, PartnerUnavailable: As the first time, marked as replayed.
    """
    steps = tuple(step for step in steps if redemption.state in _UNDONE[step])
    known = await db.read(tx, *(store.ask_facts(redemption.op_key(step)) for step in steps))
    for row in (row for rows in known for row in rows):
        if row.outcome == Outcome.REJECTED and row.source == "answer":
            context = row.body.get("context") or {"merchant": redemption.merchant_id}
            raise _again(_leaves().get(row.body["reason"], PartnerRejected)(**context))
    if redemption.reason == PartnerUnavailable.code:
        unsent = Step.CONFIRM if redemption.hold_ref else Step.HOLD
        if unsent in steps:
            raise _again(answers.unreached(redemption))


def _leaves() -> dict[str, type[PartnerRejected]]:
    return {
        leaf.code: leaf for leaf in published(PartnerRejected) if issubclass(leaf, PartnerRejected)
    }


def _again(error: PartnerRejected | PartnerUnavailable) -> PartnerRejected | PartnerUnavailable:
    error.replayed = True
    return error
