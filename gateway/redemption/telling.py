"""What others are told of a redemption: one event per state change, in its transaction."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.events import service as events
from gateway.events.service import Change
from gateway.redemption.model import Leg, Redemption, State


async def moved(tx: AsyncConnection, redemption: Redemption, *states: State, now: datetime) -> None:
    """Record the states a redemption has just gone through; its row is locked by the change."""
    data = {"merchant": redemption.merchant_id, "offer": redemption.offer_id}
    if redemption.reason is not None:
        data["reason"] = redemption.reason
    concerned = {redemption.merchant_id, *(leg.issuer for leg in redemption.legs)}
    changes = [
        Change(
            f"redemption.{state.lower()}",
            redemption.id,
            concerned,
            {"state": str(state)} | data,
            redemption.member_id,
            number,
        )
        for number, state in enumerate(states, redemption.told - len(states) + 1)
    ]
    await events.record(tx, *changes, now=now)


async def compensated(
    tx: AsyncConnection, redemption: Redemption, leg: Leg, points: int, *, now: datetime
) -> None:
    """Record that compensation was issued for a leg, which happens once."""
    data = {
        "redemption": redemption.id,
        "merchant": redemption.merchant_id,
        "offer": redemption.offer_id,
        "programme": leg.programme_id,
        "points": points,
    }
    concerned = {redemption.merchant_id, leg.issuer}
    word = "redemption.compensated"
    leg_id = f"{redemption.id}.{leg.leg_no}"
    change = Change(word, leg_id, concerned, data, redemption.member_id, seq=1)
    await events.record(tx, change, now=now)
