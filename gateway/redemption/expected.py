"""The answers hoped for, HELD and CONFIRMED: stored by one batch that reads nothing.

A redemption and what it holds are as the transaction before left them, unless another was first:
then nothing is stored here, and `Saga` judges the answer with the row locked.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db, failpoint, telemetry
from gateway.batch import Raced
from gateway.db import is_race
from gateway.ports import HoldExpired, Outcome
from gateway.redemption import effects
from gateway.redemption.answers import Answer
from gateway.redemption.model import Redemption, State, Step
from gateway.redemption.taking import Held

if TYPE_CHECKING:
    from gateway.redemption.saga import Saga

log = telemetry.log(__name__)

T = TypeVar("T")
TRIES = 5  # Who loses a race is run again, from what is committed.


def confirming(saga: Saga, redemption: Redemption) -> dict[str, Any]:
    """What changes with the state CONFIRMING.

    Raises:
        HoldExpired: Too late to confirm in time.
    """
    now, settings = saga.clock.now(), saga.settings
    skew = timedelta(seconds=settings.clock_skew_seconds)
    patience = timedelta(seconds=settings.confirm_deadline_seconds)
    deadline = min(redemption.hold_until - skew, now + patience)
    if now >= deadline:
        raise HoldExpired(expired_at=redemption.hold_until)
    lease = {"leased_until": saga.lease()}
    return lease | {"deadline": deadline, "due_at": now, "polls": 0, "resends": 0}


async def queue_confirming(saga: Saga, tx: AsyncConnection, redemption: Redemption) -> int:
    """Write the outbox row of a confirm, in the transaction that moves to CONFIRMING."""
    body = {"hold": redemption.hold_ref, "deadline": redemption.deadline}
    return await saga.queue(tx, redemption, Step.CONFIRM, "confirm", body, first=True)


async def hold_to_confirm(
    saga: Saga, redemption: Redemption, attempt: int
) -> tuple[Redemption, int | None]:
    """As `Saga.hold`; what is HELD goes on to CONFIRMING with the answer, if nobody was first.

    Returns:
        The redemption, and the attempt of the confirm that is queued, or None.
    """
    answer = await saga.ask_hold(redemption)
    moved = await held_to_confirming(saga, redemption, attempt, answer)
    if moved:
        return moved, 1
    return await saga.settle(redemption, Step.HOLD, "hold", attempt, answer), None


async def held(
    saga: Saga, redemption: Redemption, attempt: int, answer: Answer
) -> Redemption | None:
    """HOLDING to HELD; None if that is not what the answer means."""
    if redemption.state is State.HOLDING and answer.fact and answer.fact.outcome is Outcome.HELD:
        return await _store(saga, redemption, Step.HOLD, attempt, answer)
    return None


async def held_to_confirming(
    saga: Saga, redemption: Redemption, attempt: int, answer: Answer
) -> Redemption | None:
    """HOLDING by HELD to CONFIRMING, with the outbox row of the confirm.

    None if that is not what the answer means, or there is no time left to confirm.
    """
    fact = answer.fact
    if redemption.state is not State.HOLDING or not fact or fact.outcome is not Outcome.HELD:
        return None
    until = fact.expires_at or redemption.points_hold_until
    try:
        values = confirming(saga, replace(redemption, partner_hold_until=until))
    except HoldExpired:
        return None
    return await _store(saga, redemption, Step.HOLD, attempt, answer, onward=values)


async def confirmed(
    saga: Saga, redemption: Redemption, attempt: int, answer: Answer, holds: Held | None
) -> Redemption | None:
    """CONFIRMING to COMMITTED; None if that is not what the answer means."""
    if redemption.state is not State.CONFIRMING or holds is None or answer.fact is None:
        return None
    if answer.fact.outcome is not Outcome.CONFIRMED:
        return None
    return await _store(saga, redemption, Step.CONFIRM, attempt, answer, holds=holds)


async def _store(
    saga: Saga,
    redemption: Redemption,
    step: Step,
    attempt: int,
    answer: Answer,
    *,
    holds: Held | None = None,
    onward: Mapping[str, Any] | None = None,
) -> Redemption | None:
    assert answer.fact
    op_key = answer.fact.op_key
    try:
        async with storing(saga, redemption) as tx:
            moved = await effects.apply_expected(
                tx,
                redemption,
                answer.fact,
                holds=holds,
                confirming=onward,
                now=saga.clock.now(),
            )
            await saga.close(tx, op_key, str(step), attempt, answer)
            if onward:
                await queue_confirming(saga, tx, moved)
    except (DBAPIError, Raced) as error:
        if not is_race(error):
            raise
        log.info("another was first", redemption=redemption.id, step=step)
        return None
    failpoint.reached(saga.settings, str(step), "stored")
    return moved


@contextlib.asynccontextmanager
async def storing(saga: Saga, redemption: Redemption) -> AsyncIterator[AsyncConnection]:
    """The transaction that stores an answer. If it fails, the lease ends by itself.

    Another may hold it then. What is broken off stays under way: `abandon` hands it back.
    """
    try:
        async with saga.database.transaction() as tx:
            yield tx
    except Exception:
        saga.under_way.discard(redemption.id)
        raise
    saga.under_way.discard(redemption.id)


async def stored(
    saga: Saga, redemption: Redemption, work: Callable[[AsyncConnection], Awaitable[T]]
) -> T:
    """Store an answer, again after a conflict: it is here only, and would be lost."""
    try:
        done = await tried(saga, work)
    except Exception:
        saga.under_way.discard(redemption.id)
        raise
    saga.under_way.discard(redemption.id)
    return done


async def tried(saga: Saga, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """A transaction of a saga under way, again after a conflict.

    Its caller must not begin anew: it would meet its own idempotency key.
    """

    async def once(_sure: bool) -> T:
        async with saga.database.transaction() as tx:
            return await work(tx)

    return await db.tried(once, times=TRIES)
