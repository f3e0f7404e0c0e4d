"""What members, merchants, partners' webhooks and the worker do with redemptions."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db, telemetry
from gateway.catalog.model import slot_date
from gateway.db import system_now
from gateway.errors import NotFound
from gateway.points.service import HoldAlreadyResolved
from gateway.ports import (
    CancelTooLate,
    QuoteExpired,
    past_held,
)
from gateway.redemption import effects, queue, refused, store
from gateway.redemption.model import (
    AlreadyUsed,
    OwnerMismatch,
    Redemption,
    State,
    Step,
    VoucherExpired,
)
from gateway.redemption.redeeming import DONE_WITH_HOLD, Redeeming, existing
from gateway.values import business_day, new_id

log = telemetry.log(__name__)


class Redemptions(Redeeming):
    """The operations on redemptions; the saga's steps commit on their own."""

    # -- member -------------------------------------------------------------------------------

    async def release(
        self, *, member_id: str, redemption_id: str, key: str
    ) -> tuple[Redemption, bool]:
        """Give up a HELD redemption; the points are back at once.

        Raises:
            HoldAlreadyResolved: It is no longer HELD.
        """
        scope = f"{member_id}:releaseRedemption"
        now = self.clock.now()
        async with self.database.transaction() as tx:
            replay = await db.claim_key(
                tx,
                scope=scope,
                key=key,
                input={"redemption": redemption_id},
                object_id=redemption_id,
                now=now,
            )
            redemption = await self._mine(tx, redemption_id, member_id, lock=True)
            if replay or redemption.state in DONE_WITH_HOLD:
                return redemption, replay is not None
            if redemption.state is not State.HELD:
                raise HoldAlreadyResolved(hold=redemption_id, state=redemption.state)
            redemption = await effects.release(
                tx,
                redemption,
                reason="MEMBER",
                tell_partner=True,
                leased_until=self.saga.lease(),
                now=now,
            )
        return await self.saga.tell_released(redemption), False

    async def cancel_quote(self, *, member_id: str, redemption_id: str) -> sa.Row[Any]:
        """Ask what cancelling now would give back; step one of two.

        Returns:
            id (cnq_), refundable, fee_fen, expires_at, until.

        Raises:
            CancelTooLate: Nothing would come back, same as cash.
            PartnerUnavailable: Try again.
        """
        async with self.database.reading() as tx:
            redemption = await self._mine(tx, redemption_id, member_id)
        if redemption.state is State.FULFILLED:
            raise CancelTooLate(until=redemption.fulfilled_at)
        if redemption.state not in (State.COMMITTED, State.LATE_CONFIRMED):
            raise HoldAlreadyResolved(hold=redemption_id, state=redemption.state)
        assert redemption.booking_ref, "what is committed is booked"
        token = past_held.set(True)
        try:
            partner = self.partners[redemption.merchant_id]
            offered = await partner.cancel_quote(redemption.booking_ref)
        finally:
            past_held.reset(token)
        row = {
            "id": new_id("cnq"),
            "redemption_id": redemption_id,
            "partner_id": offered.id,
            "refundable": offered.refundable,
            "fee_fen": offered.fee_fen,
            "expires_at": offered.expires_at,
            "until": offered.until,
        }
        async with self.database.transaction() as tx:
            await store.add_cancel_quote(tx, row)
            stored = await store.find_cancel_quote(tx, str(row["id"]))
        assert stored
        return stored

    async def cancel(
        self, *, member_id: str, redemption_id: str, cancel_quote_id: str, key: str
    ) -> tuple[Redemption, bool]:
        """Cancel as quoted; step two of two. Points come back when the partner has cancelled.

        Raises:
            QuoteExpired: Ask what would come back again.
            CancelTooLate: The limit is over; the redemption stands.
        """
        scope = f"{member_id}:cancelRedemption"
        asked = {"redemption": redemption_id, "cancel_quote": cancel_quote_id}
        now = self.clock.now()
        async with self.database.transaction() as tx:
            replay = await db.claim_key(
                tx, scope=scope, key=key, input=asked, object_id=redemption_id, now=now
            )
            redemption = await self._mine(tx, redemption_id, member_id, lock=True)
            if replay:
                await refused.raise_again(tx, redemption, Step.CANCEL)
            if replay or redemption.state in (State.CANCELLED, State.CANCELLING):
                return redemption, replay is not None
            offered = await store.find_cancel_quote(tx, cancel_quote_id)
            if offered is None or offered.redemption_id != redemption_id:
                raise NotFound(id=cancel_quote_id)
            if now >= offered.expires_at:
                raise QuoteExpired(expired_at=offered.expires_at)
            if redemption.state is State.FULFILLED or not offered.refundable:
                raise CancelTooLate(until=offered.until or redemption.fulfilled_at)
            if redemption.state not in (State.COMMITTED, State.LATE_CONFIRMED):
                raise HoldAlreadyResolved(hold=redemption_id, state=redemption.state)
            redemption, attempt = await self.saga.queue_cancel(
                tx, redemption, offered.partner_id, cancel_quote_id
            )
        return await self.saga.cancel(redemption, offered.partner_id, attempt), False

    async def _mine(
        self, tx: AsyncConnection, redemption_id: str, member_id: str, *, lock: bool = False
    ) -> Redemption:
        redemption = await store.find(tx, redemption_id, lock=lock)
        if redemption is None or redemption.member_id != member_id:
            raise NotFound(id=redemption_id)
        return redemption

    # -- merchant -----------------------------------------------------------------------------

    async def verify_voucher(
        self,
        *,
        merchant_id: str,
        code: str,
        holder: str | None,
        key: str,
    ) -> tuple[Redemption, bool]:
        """The till takes a voucher: used once, and its obligations become clearable.

        Raises:
            NotFound: No such voucher of this merchant.
            AlreadyUsed, VoucherExpired, OwnerMismatch: Not taken.
        """
        scope = f"{merchant_id}:verifyVoucher"
        now = self.clock.now()
        async with self.database.transaction() as tx:
            replay = await db.claim_key(
                tx, scope=scope, key=key, input={"code": code, "holder": holder}, now=now
            )
            if replay:
                return await existing(tx, replay.object_id), True
            named = await store.voucher_by_code(tx, merchant_id, code)
            if named is None:
                raise NotFound(id=code)
            # Its redemption is locked before it, as by all that change vouchers; then it counts.
            redemption = await store.find(tx, named.redemption_id, lock=True)
            assert redemption
            voucher = await store.voucher_by_code(tx, merchant_id, code)
            if voucher is None or voucher.state == "VOID":
                raise NotFound(id=code)
            if voucher.state == "USED":
                raise AlreadyUsed(used_at=voucher.used_at, where=merchant_id)
            if voucher.last_on and business_day(now) > voucher.last_on:
                raise VoucherExpired(voucher=code, last_on=voucher.last_on)
            if holder is not None and holder != voucher.holder:
                raise OwnerMismatch(voucher=code)
            redemption = await self._fulfil(tx, redemption, None, actor=merchant_id, now=now)
            await db.settle_key(tx, scope=scope, key=key, object_id=redemption.id)
        return redemption, False

    async def record_fulfilment(
        self, *, merchant_id: str, redemption_id: str, final_fare_fen: int | None, key: str
    ) -> tuple[Redemption, bool]:
        """A merchant says that a redemption was consumed.

        Raises:
            NotFound: Not a redemption at this merchant.
            HoldAlreadyResolved: It is not in a state that can be consumed.
        """
        scope = f"{merchant_id}:recordFulfilment"
        asked = {"redemption": redemption_id, "final_fare_fen": final_fare_fen}
        now = self.clock.now()
        async with self.database.transaction() as tx:
            replay = await db.claim_key(
                tx, scope=scope, key=key, input=asked, object_id=redemption_id, now=now
            )
            redemption = await store.find(tx, redemption_id, lock=True)
            if redemption is None or redemption.merchant_id != merchant_id:
                raise NotFound(id=redemption_id)
            if not replay:
                redemption = await self._fulfil(
                    tx, redemption, final_fare_fen, actor=merchant_id, now=now
                )
        return redemption, replay is not None

    async def _fulfil(
        self,
        tx: AsyncConnection,
        redemption: Redemption,
        final_fare_fen: int | None,
        *,
        actor: str,
        now: datetime,
    ) -> Redemption:
        usable = (State.COMMITTED, State.LATE_CONFIRMED, State.FULFILLED)
        if redemption.state not in usable:
            raise HoldAlreadyResolved(hold=redemption.id, state=redemption.state)
        return await effects.fulfil(
            tx, redemption, final_fare_fen=final_fare_fen, version=0, actor=actor, now=now
        )

    # -- worker and operator ------------------------------------------------------------------

    async def work(self, *, limit: int = 20) -> int:
        """Drive what is due to its end: redemptions, then stored webhooks. Returns how many."""
        due = await self.lease(limit=limit)
        await asyncio.gather(*(self.drive(redemption_id) for redemption_id, _ in due))
        return len(due) + await self.inbox.apply_stored(limit=limit)

    async def lease(self, *, limit: int, full: Sequence[str] = ()) -> list[tuple[str, str]]:
        """Take redemptions that are due, but of no merchant in `full`; see `queue.lease_due`."""
        async with self.database.transaction() as tx:
            return await queue.lease_due(
                tx,
                now=self.clock.now(),
                system_now=system_now(),
                until=self.saga.lease(),
                limit=limit,
                full=full,
            )

    async def hand_back(self, redemption_ids: Collection[str]) -> None:
        """Give up the leases of redemptions that nobody here drives: another worker goes on."""
        if redemption_ids:
            async with self.database.transaction() as tx:
                await queue.hand_back(tx, sorted(redemption_ids))

    async def abandon(self) -> None:
        """At a process's end: hand back what was called and whose answer nobody here will store."""
        try:
            await self.hand_back(self.saga.under_way)
        except SQLAlchemyError:  # Leases end by themselves, too.
            log.exception("nothing handed back")

    async def drive(self, redemption_id: str) -> None:
        """Do what is due for one leased redemption; a failure is tried again after its lease."""
        try:
            await self.saga.advance(redemption_id)
        except Exception:
            log.exception("redemption failed", redemption=redemption_id)

    async def fence(self, *, redemption_id: str) -> Redemption:
        """An operator fences a redemption in doubt; only the partner's answer settles it.

        Raises:
            NotFound: No such redemption.
        """
        async with self.database.reading() as tx:
            found = await redemption(tx, redemption_id)
        return await self.saga.fence(found)


# -- reading ------------------------------------------------------------------------------------


async def redemption(tx: AsyncConnection, redemption_id: str) -> Redemption:
    """One redemption.

    Raises:
        NotFound: There is none.
    """
    found = await store.find(tx, redemption_id)
    if found is None:
        raise NotFound(id=redemption_id)
    return found


async def redemptions(
    tx: AsyncConnection,
    *,
    member_id: str | None = None,
    merchant_id: str | None = None,
    states: Sequence[str] | None = None,
    after: tuple[datetime, str] | None = None,
    limit: int = 20,
) -> list[Redemption]:
    """Redemptions of a member or at a merchant, newest first, after a (created_at, id)."""
    return await store.page(
        tx,
        member_id=member_id,
        merchant_id=merchant_id,
        states=states,
        after=after,
        limit=limit,
    )


async def redemptions_by_id(tx: AsyncConnection, ids: Sequence[str]) -> dict[str, Redemption]:
    """Many redemptions in two statements."""
    return await store.find_many(tx, ids)


async def vouchers(tx: AsyncConnection, redemption_ids: Sequence[str]) -> dict[str, sa.Row[Any]]:
    """Vouchers (voucher_id, code, holder, state, artefacts, used_at, last_on) by redemption."""
    return await store.voucher_of(tx, redemption_ids)


async def calls(tx: AsyncConnection, redemption_id: str) -> list[sa.Row[Any]]:
    """The log of partner calls of a redemption, oldest first."""
    return await store.call_log(tx, redemption_id)


async def findings(
    tx: AsyncConnection,
    *,
    redemption_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[sa.Row[Any]]:
    """What sagas found that finance must see, oldest first.

    Args:
        since, until: Business time; until is exclusive.

    Returns:
        redemption_id, code, detail, found_at, merchant_id, list_fen.
    """
    f = store.findings.c
    where = [f.redemption_id == redemption_id] if redemption_id else []
    where += [f.found_at >= since] if since else []
    where += [f.found_at < until] if until else []
    return await store.list_findings(tx, *where)


async def overdue(tx: AsyncConnection, *, slot_on: date) -> list[Redemption]:
    """Redemptions whose slot was on a day and that nobody has said were consumed."""
    found = await store.unfulfilled(tx, words=f"{slot_on:%Y-%m-%d}")
    return [each for each in found if slot_date(each.slot) == slot_on]
