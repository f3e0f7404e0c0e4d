"""The partner for merchants without a server: the gateway keeps their bookings and vouchers.

It implements the port like any adapter, so a redemption is the same; its answers come from a
table of this database, in transactions of their own.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from gateway.catalog import service as catalog
from gateway.db import Clock, Database, insert_missing
from gateway.errors import NotFound, PartnerRejected, PartnerUnavailable
from gateway.ports import (
    CancelQuote,
    CancelTooLate,
    Capability,
    Claim,
    Fact,
    FeedPage,
    HoldExpired,
    LiveOffer,
    NoticeReceipt,
    Outcome,
    Partner,
    PartnerEvent,
    Quote,
    QuoteRequest,
    Reservation,
    SettlementNotice,
    Statement,
)
from gateway.redemption.store import hosted
from gateway.values import fingerprint

QUOTE_LIFE = timedelta(minutes=15)


class HostedPartner:
    """One merchant's side, kept by the gateway."""

    capabilities = Capability.REDEEM | Capability.NOTICE

    def __init__(self, code: str, database: Database, clock: Clock) -> None:
        self.code = code
        self._database = database
        self._clock = clock

    async def list_offers(self, cursor: str | None) -> FeedPage:
        """Nothing to pull: such a merchant publishes with `publishOffer`."""
        return FeedPage((), cursor or "", more=False)

    async def live(self, offer_ids: Sequence[str], *, on: date | None) -> list[LiveOffer]:
        del on
        async with self._database.reading() as tx:
            found = await catalog.offers(tx, list(offer_ids))
        if not all(offer.hosted for offer in found.values()):
            raise PartnerUnavailable(merchant=self.code, retry_after_seconds=60)
        return [LiveOffer(offer.id, offer.cash_fen, None) for offer in found.values()]

    async def quote(self, request: QuoteRequest) -> Quote:
        async with self._database.reading() as tx:
            try:
                offer = await catalog.offer(tx, request.offer_id)
            except NotFound as error:
                raise PartnerRejected(merchant=self.code, reason="no such offer") from error
        if not offer.hosted:  # It has a server of its own, which is not configured here.
            raise PartnerUnavailable(merchant=self.code, retry_after_seconds=60)
        list_fen = request.bill_fen or offer.cash_fen * request.quantity
        terms = fingerprint({"offer": offer.id, "list_fen": list_fen})
        expires_at = self._clock.now() + QUOTE_LIFE
        return Quote(f"{offer.id}:{secrets.token_hex(8)}", list_fen, expires_at, terms)

    async def hold(
        self, quote_id: str, *, op_key: str, ttl_seconds: int, claims: Sequence[Claim]
    ) -> Reservation:
        del claims
        until = self._clock.now() + timedelta(seconds=ttl_seconds)
        row: dict[str, object] = {"op_key": op_key, "merchant_id": self.code}
        row |= {"outcome": str(Outcome.HELD), "hold_ref": f"hh_{op_key}"}
        row |= {"quote_id": quote_id, "expires_at": until}
        stored = await self._once(row)
        if stored.outcome != Outcome.HELD:
            raise PartnerRejected(merchant=self.code, reason=stored.outcome)
        return Reservation(op_key, stored.hold_ref, stored.expires_at)

    async def confirm(
        self, hold_ref: str, *, op_key: str, deadline: datetime, gateway_ref: str
    ) -> Fact:
        row = {"op_key": op_key, "merchant_id": self.code, "outcome": str(Outcome.CONFIRMED)}
        row |= {"hold_ref": hold_ref, "code": f"{secrets.randbelow(10**8):08d}"}
        row |= {"quote_id": gateway_ref}
        known = await self.status(op_key)
        if known.outcome is Outcome.NOT_FOUND:
            held = await self.status(hold_ref.removeprefix("hh_"))
            until = min(deadline, held.expires_at or deadline)
            if self._clock.now() >= until:
                raise HoldExpired(expired_at=until)
            if held.outcome is not Outcome.HELD:
                raise PartnerRejected(merchant=self.code, reason=str(held.outcome))
        stored = await self._once(row)
        return _fact(stored)

    async def status(self, op_key: str) -> Fact:
        async with self._database.reading() as tx:
            query = sa.select(hosted).where(hosted.c.op_key == op_key)
            row = (await tx.execute(query)).one_or_none()
        return _fact(row) if row else Fact(op_key, Outcome.NOT_FOUND)

    async def fence(self, op_key: str) -> Fact:
        row = {"op_key": op_key, "merchant_id": self.code, "outcome": str(Outcome.FENCED)}
        stored = await self._once(row)
        if stored.outcome == Outcome.HELD:
            async with self._database.transaction() as tx:
                mine = hosted.c.op_key == op_key
                changed = {"outcome": str(Outcome.FENCED)}
                await tx.execute(sa.update(hosted).where(mine).values(changed))
        return await self.status(op_key)

    async def cancel_quote(self, booking_ref: str) -> CancelQuote:
        """Free until the voucher is used; the gateway itself knows when that is."""
        known = await self.status(booking_ref)
        if known.outcome is not Outcome.CONFIRMED:
            raise CancelTooLate(until=None)
        return CancelQuote(booking_ref, True, 0, self._clock.now() + QUOTE_LIFE)

    async def cancel(self, cancel_quote_id: str, *, op_key: str) -> Fact:
        row = {"op_key": op_key, "merchant_id": self.code, "outcome": str(Outcome.CANCELLED)}
        return _fact(await self._once(row | {"hold_ref": cancel_quote_id}))

    def event(self, body: Mapping[str, Any]) -> PartnerEvent:
        raise ValueError(f"{self.code} sends no webhooks")

    async def statement(self, day: date) -> Statement:
        raise PartnerRejected(merchant=self.code, reason=f"no statement of its own for {day}")

    async def settlement_notice(self, notice: SettlementNotice, *, op_key: str) -> NoticeReceipt:
        """The merchant reads its legs through GraphQL, with the same signed head (`auditHead`)."""
        return NoticeReceipt(f"hosted:{notice.leg_id}:{op_key}", self._clock.now())

    async def _once(self, row: Mapping[str, Any]) -> sa.Row[Any]:
        """Insert, or find what the key did before."""
        async with self._database.transaction() as tx:
            full = {"recorded_at": self._clock.now()} | dict(row)
            await tx.execute(insert_missing(tx, hosted).values(**full))
            query = sa.select(hosted).where(hosted.c.op_key == row["op_key"])
            return (await tx.execute(query)).one()


def _fact(row: sa.Row[Any]) -> Fact:
    confirmed = row.outcome == Outcome.CONFIRMED
    return Fact(
        row.op_key,
        Outcome(row.outcome),
        version=1 if confirmed else 0,
        booking_ref=row.op_key if confirmed else None,
        hold_ref=row.hold_ref,
        expires_at=row.expires_at,
        artefacts={"code": row.code} if row.code else {},
    )


class Partners(Mapping[str, Partner]):
    """Adapters by merchant; a merchant without one is hosted."""

    def __init__(self, adapters: Mapping[str, Partner], database: Database, clock: Clock) -> None:
        self._adapters = adapters
        self._database = database
        self._clock = clock

    def __getitem__(self, merchant_id: str) -> Partner:
        adapter = self._adapters.get(merchant_id)
        return adapter or HostedPartner(merchant_id, self._database, self._clock)

    def __iter__(self) -> Iterator[str]:
        return iter(self._adapters)

    def __len__(self) -> int:
        return len(self._adapters)

    def __contains__(self, merchant_id: object) -> bool:
        return isinstance(merchant_id, str)
