"""What a redemption leaves to be done when it is over: jobs, tried until they are done."""

from collections.abc import Mapping
from typing import Any

from gateway.db import Clock, Database
from gateway.errors import OutcomeUnknown, Refused
from gateway.ports import Outcome, Partner, past_held
from gateway.redemption import compensation, effects, store
from gateway.redemption.answers import answered
from gateway.redemption.model import Redemption, Step
from gateway.settings import Settings


class Aftermath:
    """The jobs of redemptions; each may be done twice and is done once.

    Args:
        partners: Merchant id to its adapter.
    """

    def __init__(
        self,
        database: Database,
        partners: Mapping[str, Partner],
        clock: Clock,
        settings: Settings,
    ) -> None:
        self.database = database
        self.partners = partners
        self.clock = clock
        self.settings = settings

    async def cancel_late(self, payload: Mapping[str, Any]) -> None:
        """A booking confirmed after its release, which the points do not cover: cancel it.

        Source: contracts §5.5 (2), (3).
        """
        redemption = await self._find(payload)
        partner, op_key = self.partners[redemption.merchant_id], redemption.op_key(Step.CANCEL)
        token = past_held.set(True)
        try:
            known = answered(await partner.status(op_key), op_key)
            if known.outcome is not Outcome.CANCELLED:  # By a try whose end nobody noted.
                offered = await partner.cancel_quote(payload["booking_ref"])
                answered(await partner.cancel(offered.id, op_key=op_key), op_key)
            code, detail = "LATE_CONFIRM_CANCELLED", f"{payload['booking_ref']} cancelled"
        except Refused as refusal:
            confirm = redemption.op_key(Step.CONFIRM)
            booked = answered(await partner.status(confirm), confirm)
            gone = booked.outcome is Outcome.CANCELLED  # By the partner itself, before we asked.
            code = "LATE_CONFIRM_CANCELLED" if gone else "LATE_CONFIRM_UNCOVERED"
            detail = str(refusal)
        finally:
            past_held.reset(token)
        async with self.database.transaction() as tx:
            await store.add_finding(
                tx, redemption_id=redemption.id, code=code, detail=detail, now=self.clock.now()
            )

    async def let_go(self, payload: Mapping[str, Any]) -> None:
        """A hold that was told after its release is fenced, so that nothing stays reserved.

        Source: contracts §5.4, row 4.
        """
        redemption = await self._find(payload)
        op_key = payload["op_key"]
        token = past_held.set(True)
        try:
            fact = answered(await self.partners[redemption.merchant_id].fence(op_key), op_key)
        finally:
            past_held.reset(token)
        if fact.outcome in (Outcome.HELD, Outcome.IN_FLIGHT):
            raise OutcomeUnknown(op_key=op_key)  # It is not let go: again, later.
        async with self.database.transaction() as tx:  # Fenced, or it has sold what it held.
            await effects.apply_fact(
                tx, fact, source="fence", settings=self.settings, now=self.clock.now()
            )

    async def compensate_again(self, payload: Mapping[str, Any]) -> bool:
        """Try a compensation that waited for its slice; True when it was issued."""
        async with self.database.transaction() as tx:
            redemption = await store.find(tx, payload["redemption"], lock=True)
            assert redemption
            (leg,) = [leg for leg in redemption.legs if leg.leg_no == payload["leg"]]
            return await compensation.compensate(tx, redemption, leg, now=self.clock.now())

    async def _find(self, payload: Mapping[str, Any]) -> Redemption:
        async with self.database.reading() as tx:
            redemption = await store.find(tx, payload["redemption"])
        assert redemption, "a job names a redemption"
        return redemption
