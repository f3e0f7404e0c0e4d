"""What members, merchants, partners' webhooks and the worker do with redemptions."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db, telemetry
from gateway.catalog import quotes
from gateway.catalog.model import OfferSuspended, StoredQuote
from gateway.catalog.pricing import LegInput
from gateway.db import Clock, Database, system_now
from gateway.errors import NotFound, Refused
from gateway.merchants import service as merchants
from gateway.points.service import HoldAlreadyResolved
from gateway.ports import (
    CancelTooLate,
    Partner,
    PriceChanged,
    QuoteExpired,
    past_held,
)
from gateway.redemption import effects, queue, store
from gateway.redemption.aftermath import Aftermath
from gateway.redemption.inbox import Inbox
from gateway.redemption.model import (
    AlreadyUsed,
    OwnerMismatch,
    Redemption,
    State,
    VoucherExpired,
)
from gateway.redemption.saga import Saga
from gateway.settings import Settings
from gateway.values import Rate, business_day, new_id

log = telemetry.log(__name__)

_DONE_WITH_HOLD = frozenset({State.RELEASED, State.RELEASING})


class Redemptions:
    """The operations on redemptions; the saga's steps commit on their own.

    Args:
        partners: Merchant id to adapter; hosted merchants included.
        secret: Key of the members' pseudonyms.
    """

    def __init__(
        self,
        database: Database,
        partners: Mapping[str, Partner],
        clock: Clock,
        settings: Settings,
        secret: bytes,
    ) -> None:
        self.database = database
        self.partners = partners
        self.clock = clock
        self.settings = settings
        self.secret = secret
        self.saga = Saga(database, partners, clock, settings)
        self.inbox = Inbox(database, partners, clock, settings)
        self.aftermath = Aftermath(database, partners, clock, settings)

    # -- member -------------------------------------------------------------------------------

    async def hold(
        self, *, member_id: str, quote_id: str, key: str, auto_confirm: bool = False
    ) -> tuple[Redemption, bool]:
        """Hold points and cover, then the partner's side, for a quote.

        Returns:
            The redemption (HELD, or IN_DOUBT) and whether the key was seen before.

        Raises:
            QuoteExpired, InsufficientPoints, NoAgreement, AgreementCap, CoverExceeded: Nothing
                has changed.
            PriceChanged: The points are back; the context names the new quote.
            PartnerRejected, PartnerUnavailable: The points are back.
        """
        scope = f"{member_id}:holdRedemption"
        claim: dict[str, Any] = {"scope": scope, "key": key, "input": {"quote": quote_id}}
        return await self._hold(member_id, quote_id, claim, auto_confirm=auto_confirm)

    async def _hold(
        self, member_id: str, quote_id: str, claim: dict[str, Any], *, auto_confirm: bool
    ) -> tuple[Redemption, bool]:
        now = self.clock.now()
        async with self.database.transaction() as tx:
            replay = await db.claim_key(tx, **claim, now=now)
            if replay:
                return await _existing(tx, replay.object_id), True
            quote = await quotes.quote(tx, quote_id, member_id=member_id)
            used = await store.find_by_quote(tx, quote_id)
            if used is None:
                await _require_taking_part(tx, quote)
                redemption = await effects.hold_points(
                    tx,
                    quote,
                    auto_confirm=auto_confirm,
                    leased_until=self.saga.lease(),
                    settings=self.settings,
                    now=now,
                )
                attempt = await self.saga.queue_hold(tx, redemption)
            settled = used or redemption
            await db.settle_key(tx, scope=claim["scope"], key=claim["key"], object_id=settled.id)
        if used:
            return used, True
        try:
            return await self.saga.hold(redemption, attempt), False
        except PriceChanged as change:
            raise await self._new_price(quote, change) from change

    async def _new_price(self, quote: StoredQuote, change: PriceChanged) -> PriceChanged:
        """The partner asks another price: quote again; nothing is accepted for the member."""
        legs = [LegInput(leg.programme_id, leg.points) for leg in quote.legs[:-1]]
        legs.append(LegInput(quote.legs[-1].programme_id, None))
        try:
            again = await self.request_quote(
                member_id=quote.member_id,
                offer_id=quote.offer_id,
                slot=quote.slot,
                quantity=quote.quantity,
                bill_fen=quote.bill_fen,
                legs=legs,
                cash_fen=quote.cash_fen,
            )
        except Refused:
            return PriceChanged(
                old_points=quote.legs[-1].points,
                new_points=None,
                new_quote=None,
                new_list_fen=change.context.get("new_list_fen"),
            )
        return PriceChanged(
            old_points=quote.legs[-1].points,
            new_points=again.legs[-1].points,
            new_quote=again.id,
        )

    async def request_quote(
        self,
        *,
        member_id: str,
        offer_id: str,
        slot: str | None,
        quantity: int,
        bill_fen: int | None,
        legs: Sequence[LegInput],
        cash_fen: int | None,
    ) -> StoredQuote:
        """Ask a binding quote; see `catalog.quotes.request_quote`."""
        return await quotes.request_quote(
            self.database,
            self.partners,
            member_id=member_id,
            offer_id=offer_id,
            slot=slot,
            quantity=quantity,
            bill_fen=bill_fen,
            legs=list(legs),
            cash_fen=cash_fen,
            secret=self.secret,
            settings=self.settings,
            clock=self.clock,
        )

    async def confirm(
        self, *, member_id: str, redemption_id: str, key: str
    ) -> tuple[Redemption, bool]:
        """Spend: the partner confirms, then the points burn.

        Returns:
            The redemption: COMMITTED, or CONFIRMING while the partner decides, or IN_DOUBT; and
            whether the key was seen before.

        Raises:
            HoldExpired: Too late; the points come back.
            HoldAlreadyResolved: It was released.
            PartnerRejected, PartnerUnavailable: The points are back.
        """
        scope = f"{member_id}:confirmRedemption"
        asked = {"redemption": redemption_id}
        now = self.clock.now()
        async with self.database.transaction() as tx:
            replay = await db.claim_key(
                tx, scope=scope, key=key, input=asked, object_id=redemption_id, now=now
            )
            redemption = await store.find(tx, redemption_id, lock=True)
            if redemption is None or redemption.member_id != member_id:
                raise NotFound(id=redemption_id)
            if redemption.state is not State.HELD:
                if redemption.state in _DONE_WITH_HOLD and not replay:
                    raise HoldAlreadyResolved(hold=redemption_id, state=redemption.state)
                return redemption, replay is not None
            redemption, attempt = await self.saga.queue_confirm(tx, redemption)
        return await self.saga.confirm(redemption, attempt), replay is not None

    async def redeem(
        self,
        *,
        member_id: str,
        offer_id: str,
        slot: str | None,
        quantity: int,
        bill_fen: int | None,
        legs: Sequence[LegInput],
        cash_fen: int | None,
        key: str,
    ) -> tuple[Redemption, bool]:
        """Quote, hold and confirm in one; what a crash leaves HELD the worker confirms.

        Raises:
            PriceChanged: The partner asks more than the catalog shows; nothing is held, and the
                new quote can be accepted as any other.
        """
        scope = f"{member_id}:redeemOffer"
        asked = {
            "offer": offer_id,
            "slot": slot,
            "quantity": quantity,
            "bill_fen": bill_fen,
            "legs": [[leg.programme_id, leg.points] for leg in legs],
            "cash_fen": cash_fen,
        }
        claim: dict[str, Any] = {"scope": scope, "key": key, "input": asked}
        async with self.database.reading() as tx:
            replay = await db.peek_key(tx, **claim)
            if replay:
                return await _existing(tx, replay.object_id), True
        quote = await self.request_quote(
            member_id=member_id,
            offer_id=offer_id,
            slot=slot,
            quantity=quantity,
            bill_fen=bill_fen,
            legs=legs,
            cash_fen=cash_fen,
        )
        _require_shown_price(quote)
        redemption, replayed = await self._hold(member_id, quote.id, claim, auto_confirm=True)
        if replayed or redemption.state is not State.HELD:
            return redemption, replayed
        async with self.database.transaction() as tx:
            current = await store.find(tx, redemption.id, lock=True)
            assert current
            if current.state is not State.HELD:
                return current, False  # The worker was first.
            current, attempt = await self.saga.queue_confirm(tx, current)
        return await self.saga.confirm(current, attempt), False

    async def release(
        self, *, member_id: str, redemption_id: str, key: str
    ) -> tuple[Redemption, bool]:
        """Give up a HELD redemption; the points are back at once.

        Raises:
            HoldAlreadyResolved: It is no longer HELD.
        """
        scope = f"{member_id}:releaseRedemption"
        async with self.database.transaction() as tx:
            replay = await db.claim_key(
                tx,
                scope=scope,
                key=key,
                input={"redemption": redemption_id},
                now=self.clock.now(),
            )
            redemption = await self._mine(tx, redemption_id, member_id)
            if redemption.state is not State.HELD and redemption.state not in _DONE_WITH_HOLD:
                raise HoldAlreadyResolved(hold=redemption_id, state=redemption.state)
            await db.settle_key(tx, scope=scope, key=key, object_id=redemption_id)
        return await self.saga.release(redemption_id, reason="MEMBER"), replay is not None

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
                return await _existing(tx, replay.object_id), True
            voucher = await store.voucher_by_code(tx, merchant_id, code)
            if voucher is None or voucher.state == "VOID":
                raise NotFound(id=code)
            if voucher.state == "USED":
                raise AlreadyUsed(used_at=voucher.used_at, where=merchant_id)
            if voucher.last_on and business_day(now) > voucher.last_on:
                raise VoucherExpired(voucher=code, last_on=voucher.last_on)
            if holder is not None and holder != voucher.holder:
                raise OwnerMismatch(voucher=code)
            redemption = await store.find(tx, voucher.redemption_id, lock=True)
            assert redemption
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
        await self.hand_back(self.saga.under_way)

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
            if await store.find(tx, redemption_id) is None:
                raise NotFound(id=redemption_id)
        return await self.saga.fence(redemption_id)


async def _require_taking_part(tx: AsyncConnection, quote: StoredQuote) -> None:
    """A merchant that is paused holds nothing new; what is held already goes its way."""
    if (await merchants.get(tx, quote.merchant_id)).paused:
        raise OfferSuspended(field=("quote",), offer=quote.offer_id, reason="merchant paused")


def _require_shown_price(quote: StoredQuote) -> None:
    """An increase is never accepted for the member: they must see it first."""
    if quote.list_fen <= quote.shown_fen or quote.pricing == "estimate":
        return
    last = quote.legs[-1]
    face_fen = max(last.face_fen - (quote.list_fen - quote.shown_fen), 0)
    old_points = Rate(last.rate_num, last.rate_den).ceil_divide(face_fen)
    raise PriceChanged(old_points=old_points, new_points=last.points, new_quote=quote.id)


async def _existing(tx: AsyncConnection, redemption_id: str) -> Redemption:
    redemption = await store.find(tx, redemption_id)
    assert redemption, "a settled key names a redemption"
    return redemption


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


async def findings(tx: AsyncConnection) -> list[sa.Row[Any]]:
    """What sagas found that finance must see: redemption_id, code, detail, found_at."""
    return await store.list_findings(tx)
