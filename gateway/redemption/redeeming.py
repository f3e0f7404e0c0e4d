"""From a quote to the commit: what a member who redeems goes through.

Each step reads once and writes once. What it has read is not locked: its writes say what they
expect to find, and if another was first, the step runs again and locks.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.catalog import quotes
from gateway.catalog.model import StoredQuote
from gateway.catalog.pricing import LegInput
from gateway.db import Clock, Database
from gateway.errors import NotFound, Refused
from gateway.points.service import HoldAlreadyResolved
from gateway.ports import HoldExpired, Partner, PriceChanged
from gateway.redemption import expected, refused, store, taking
from gateway.redemption.aftermath import Aftermath
from gateway.redemption.inbox import Inbox
from gateway.redemption.model import Redemption, State, Step
from gateway.redemption.saga import Saga
from gateway.redemption.taking import Held
from gateway.settings import Settings
from gateway.values import Rate

Kept = TypeVar("Kept")
KEPT = 1_000
DONE_WITH_HOLD = frozenset({State.RELEASED, State.RELEASING})


@dataclass(frozen=True, slots=True)
class Queued:
    """A call that may be made now, and what its redemption holds, if that is at hand."""

    attempt: int
    holds: Held | None


@dataclass(frozen=True, slots=True)
class Left:
    """A redemption as this process left it: HELD, unless somebody has moved it since."""

    redemption: Redemption
    holds: Held


class Redeeming:
    """Redeems; the saga's steps commit on their own.

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
        self._quotes: OrderedDict[str, StoredQuote] = OrderedDict()  # Immutable; the latest.
        self._left: OrderedDict[str, Left] = OrderedDict()  # By redemption; the latest.
        self.saga = Saga(database, partners, clock, settings)
        self.inbox = Inbox(database, partners, clock, settings)
        self.aftermath = Aftermath(database, partners, clock, settings)

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
        quote, redemption, call = await db.tried(
            lambda sure: self._queue_hold(
                member_id, quote_id, claim, auto_confirm=auto_confirm, sure=sure
            )
        )
        try:
            if call is None:
                return await self._again(redemption, Step.HOLD), True
            held = await self.saga.hold(redemption, call.attempt)
            redemption = await refused.heard(self.database, held, Step.HOLD)
        except PriceChanged as change:
            raise await self._new_price(quote, redemption, change) from change
        if redemption.state is State.HELD and call.holds:
            _keep(self._left, redemption.id, Left(redemption, call.holds))
        return redemption, False

    async def _queue_hold(
        self,
        member_id: str,
        quote_id: str,
        claim: dict[str, Any],
        *,
        auto_confirm: bool,
        sure: bool,
        new: StoredQuote | None = None,
    ) -> tuple[StoredQuote, Redemption, Queued | None]:
        """Take the key, points and cover, and queue the call; none if it was before.

        Args:
            sure: Lock what is read: the first try was Raced.
            new: The quote, if it is not stored yet.
        """
        now = self.clock.now()
        known = new or self._quotes.get(quote_id)
        asks = [db.ask_key(claim), store.ask_used(quote_id)]
        asks += taking.asks(known) if known else [quotes.ask(quote_id)]
        async with self.database.transaction() as tx:
            seen, used, *found = await db.read(tx, *asks)
            if replay := db.replay_of(seen, claim):
                made = await existing(tx, replay.object_id)
                return known or await quotes.quote(tx, made.quote_id), made, None
            if known is None:
                quote = quotes.found(found[0], quote_id, member_id=member_id)
            elif known.member_id != member_id:
                raise NotFound(field=("quote",), id=quote_id)
            else:
                quote = known
            if used:
                await db.take_key(tx, claim, object_id=used[0].id, now=now)
                return quote, await existing(tx, used[0].id), None
            redemption = taking.from_quote(
                quote, auto_confirm=auto_confirm, settings=self.settings, now=now
            )
            if known is None and not sure:
                found = await db.read(tx, *taking.asks(quote))
            await db.take_key(tx, claim, object_id=redemption.id, now=now)
            if new:
                await quotes.put(tx, new)
            lease = self.saga.lease()
            holds = await taking.hold_points(
                tx, redemption, found=None if sure else found, leased_until=lease, now=now
            )
            attempt = await self.saga.queue_hold(tx, redemption)
        self._quotes.pop(quote_id, None)
        return quote, redemption, Queued(attempt, holds)

    async def _again(self, redemption: Redemption, *steps: Step) -> Redemption:
        """What a key that was seen before has made; a refused step is refused again."""
        async with self.database.reading() as tx:
            await refused.raise_again(tx, redemption, *steps)
        return redemption

    async def _new_price(
        self, quote: StoredQuote, redemption: Redemption, change: PriceChanged
    ) -> PriceChanged:
        """The partner asks another price: quote again; nothing is accepted for the member.

        Once for a redemption: who asks again is told the same quote.
        """
        claim = {"scope": f"{quote.member_id}:newPrice", "key": redemption.id, "input": {}}
        legs = [LegInput(leg.programme_id, leg.points) for leg in quote.legs[:-1]]
        legs.append(LegInput(quote.legs[-1].programme_id, None))
        try:
            wanted = quotes.Request(
                member_id=quote.member_id,
                offer_id=quote.offer_id,
                slot=quote.slot,
                quantity=quote.quantity,
                bill_fen=quote.bill_fen,
                legs=tuple(legs),
                cash_fen=quote.cash_fen,
            )
            again, _ = await self.quote_once(wanted, claim=claim)
        except Refused:
            stale = PriceChanged(
                old_points=quote.legs[-1].points,
                new_points=None,
                new_quote=None,
                new_list_fen=change.context.get("new_list_fen"),
            )
        else:
            stale = PriceChanged(
                old_points=quote.legs[-1].points,
                new_points=again.legs[-1].points,
                new_quote=again.id,
            )
        stale.replayed = change.replayed
        return stale

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
        made = await quotes.request_quote(
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
        _keep(self._quotes, made.id, made)  # At hand for the hold that follows, mostly.
        return made

    async def quote_once(
        self, wanted: quotes.Request, *, claim: Mapping[str, Any]
    ) -> tuple[StoredQuote, bool]:
        """As `request_quote`, once for a key; and whether the key was seen before."""
        made, replayed = await quotes.quote_once(
            self.database,
            self.partners,
            asked=wanted,
            claim=claim,
            secret=self.secret,
            settings=self.settings,
            clock=self.clock,
        )
        _keep(self._quotes, made.id, made)
        return made, replayed

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
        claim: dict[str, Any] = {"scope": f"{member_id}:confirmRedemption", "key": key}
        claim["input"] = {"redemption": redemption_id}
        redemption, replayed, call = await db.tried(
            lambda sure: self._queue_confirm(member_id, redemption_id, claim, sure=sure)
        )
        if call is None:
            return await self._again(redemption, Step.CONFIRM) if replayed else redemption, replayed
        confirmed = await self.saga.confirm(redemption, call.attempt, holds=call.holds)
        return await refused.heard(self.database, confirmed, Step.CONFIRM), replayed

    async def _queue_confirm(
        self, member_id: str, redemption_id: str, claim: dict[str, Any], *, sure: bool
    ) -> tuple[Redemption, bool, Queued | None]:
        """Take the key and queue the call; none if there is nothing to be confirmed.

        Args:
            sure: Lock what is read: the first try was Raced.
        """
        left = self._left.pop(redemption_id, None)
        if left and left.redemption.member_id == member_id and not sure:
            with contextlib.suppress(HoldExpired):  # Unless it has moved since.
                return await self._queue_left(left, claim)
        now = self.clock.now()
        async with self.database.transaction() as tx:
            mine, legs, seen, *holding = await db.read(
                tx,
                *store.ask(redemption_id, lock=sure),
                db.ask_key(claim),
                *taking.ask_held(redemption_id, epoch=1),  # HELD is of the first epoch.
            )
            replay = db.replay_of(seen, claim)
            redemption = store.found(mine, legs)
            if redemption is None or redemption.member_id != member_id:
                raise NotFound(id=redemption_id)
            if replay is None:
                await db.take_key(tx, claim, object_id=redemption_id, now=now)
            if redemption.state is not State.HELD:
                if redemption.state in DONE_WITH_HOLD and not replay:
                    raise HoldAlreadyResolved(hold=redemption_id, state=redemption.state)
                return redemption, replay is not None, None
            assert redemption.epoch == 1
            redemption, attempt = await self.saga.queue_confirm(tx, redemption, locked=sure)
        return redemption, replay is not None, Queued(attempt, taking.held(*holding))

    async def _queue_left(
        self, left: Left, claim: dict[str, Any]
    ) -> tuple[Redemption, bool, Queued | None]:
        """As `_queue_confirm`, of what this process left HELD: nothing is read.

        Raises:
            HoldExpired: Too late to confirm in time.
            Raced: It has moved since, or the key is known.
        """
        async with self.database.transaction() as tx:
            await db.take_key(tx, claim, object_id=left.redemption.id, now=self.clock.now())
            redemption, attempt = await self.saga.queue_confirm(tx, left.redemption, locked=False)
        return redemption, False, Queued(attempt, left.holds)

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
        wanted = quotes.Request(
            member_id, offer_id, slot, quantity, bill_fen, tuple(legs), cash_fen
        )
        drafted = await self._draft(wanted, claim)
        if drafted.quote is None:
            assert drafted.replay
            async with self.database.reading() as tx:
                made = await existing(tx, drafted.replay.object_id)
                first = await quotes.quote(tx, made.quote_id)
            return await self._redeemed(first, made), True
        return await self._redeem(drafted.quote, claim)

    async def _draft(self, wanted: quotes.Request, claim: Mapping[str, Any]) -> quotes.Draft:
        return await quotes.draft_quote(
            self.database,
            self.partners,
            asked=wanted,
            claim=claim,
            secret=self.secret,
            settings=self.settings,
            clock=self.clock,
        )

    async def _redeem(self, quote: StoredQuote, claim: dict[str, Any]) -> tuple[Redemption, bool]:
        """Hold and confirm a quote that is not stored yet."""
        try:
            _require_shown_price(quote)
        except PriceChanged:
            async with self.database.transaction() as tx:
                await quotes.put(tx, quote)
            raise
        _, redemption, call = await db.tried(
            lambda sure: self._queue_hold(
                quote.member_id, quote.id, claim, auto_confirm=True, sure=sure, new=quote
            )
        )
        if call is None:
            return await self._redeemed(quote, redemption), True
        try:
            made = await self._hold_and_confirm(redemption, call)
            return await refused.heard(self.database, made, Step.HOLD, Step.CONFIRM), False
        except PriceChanged as change:
            raise await self._new_price(quote, redemption, change) from change

    async def _hold_and_confirm(self, redemption: Redemption, call: Queued) -> Redemption:
        redemption, attempt = await expected.hold_to_confirm(self.saga, redemption, call.attempt)
        if attempt is not None:
            return await self.saga.confirm(redemption, attempt, holds=call.holds)
        if redemption.state is not State.HELD:
            return redemption
        current, attempt = await expected.tried(
            self.saga, lambda tx: self._confirming(tx, redemption.id)
        )
        if attempt is None:
            return current  # The worker was first.
        return await self.saga.confirm(current, attempt)

    async def _redeemed(self, quote: StoredQuote, redemption: Redemption) -> Redemption:
        """As `_again`, of `redeem`."""
        try:
            return await self._again(redemption, Step.HOLD, Step.CONFIRM)
        except PriceChanged as change:
            raise await self._new_price(quote, redemption, change) from change

    async def _confirming(
        self, tx: AsyncConnection, redemption_id: str
    ) -> tuple[Redemption, int | None]:
        current = await store.find(tx, redemption_id, lock=True)
        assert current
        if current.state is not State.HELD:
            return current, None
        return await self.saga.queue_confirm(tx, current)


def _keep(kept: OrderedDict[str, Kept], key: str, value: Kept) -> None:
    """Have something at hand for the step that follows; the oldest goes."""
    kept[key] = value
    if len(kept) > KEPT:
        kept.popitem(last=False)


def _require_shown_price(quote: StoredQuote) -> None:
    """An increase is never accepted for the member: they must see it first."""
    if quote.list_fen <= quote.shown_fen or quote.pricing == "estimate":
        return
    last = quote.legs[-1]
    face_fen = max(last.face_fen - (quote.list_fen - quote.shown_fen), 0)
    old_points = Rate(last.rate_num, last.rate_den).ceil_divide(face_fen)
    raise PriceChanged(old_points=old_points, new_points=last.points, new_quote=quote.id)


async def existing(tx: AsyncConnection, redemption_id: str) -> Redemption:
    redemption = await store.find(tx, redemption_id)
    assert redemption, "a settled key names a redemption"
    return redemption
