"""What members do: quote, hold, confirm, release, cancel, donate, consent.

A field that asks a partner has no transaction of its own: its service commits step by step and
takes the idempotency key with the first of them.
"""

from typing import Any

import strawberry
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.api.context import Info, given
from gateway.api.errors import Effect, Payload
from gateway.api.member import member_of
from gateway.api.redemption_types import CancelQuote, Consent, Donation, Quote, Redemption
from gateway.api.scalars import Fen, Points
from gateway.catalog import quotes
from gateway.catalog.pricing import LegInput
from gateway.errors import NotFound
from gateway.members import service as members
from gateway.redemption import donations


@strawberry.input
class LegsInput:
    """A leg; without points, the last one covers the rest."""

    programme: strawberry.ID
    points: Points | None = None


@strawberry.input
class RequestQuoteInput:
    offer: strawberry.ID
    legs: list[LegsInput]
    idempotency_key: str
    slot: str | None = None
    quantity: int = 1
    bill_fen: Fen | None = None
    cash_fen: Fen | None = None


@strawberry.input
class HoldRedemptionInput:
    quote: strawberry.ID
    idempotency_key: str


@strawberry.input
class ConfirmRedemptionInput:
    redemption: strawberry.ID
    idempotency_key: str


@strawberry.input
class RedeemOfferInput:
    offer: strawberry.ID
    legs: list[LegsInput]
    idempotency_key: str
    slot: str | None = None
    quantity: int = 1
    bill_fen: Fen | None = None
    cash_fen: Fen | None = None


@strawberry.input
class ReleaseRedemptionInput:
    redemption: strawberry.ID
    idempotency_key: str


@strawberry.input
class RequestCancellationInput:
    redemption: strawberry.ID
    idempotency_key: str


@strawberry.input
class CancelRedemptionInput:
    redemption: strawberry.ID
    cancel_quote: strawberry.ID
    idempotency_key: str


@strawberry.input
class DonatePointsInput:
    beneficiary: strawberry.ID
    programme: strawberry.ID
    points: Points
    idempotency_key: str


@strawberry.input
class ReverseDonationInput:
    donation: strawberry.ID
    idempotency_key: str


@strawberry.input
class GrantConsentInput:
    purpose: str
    idempotency_key: str
    issuer: strawberry.ID | None = None
    redeemer: strawberry.ID | None = None


@strawberry.input
class RevokeConsentInput:
    consent: strawberry.ID
    idempotency_key: str


@strawberry.type
class RequestQuotePayload(Payload):
    quote: Quote | None = None


@strawberry.type
class HoldRedemptionPayload(Payload):
    redemption: Redemption | None = None


@strawberry.type
class ConfirmRedemptionPayload(Payload):
    redemption: Redemption | None = None


@strawberry.type
class RedeemOfferPayload(Payload):
    redemption: Redemption | None = None


@strawberry.type
class ReleaseRedemptionPayload(Payload):
    redemption: Redemption | None = None


@strawberry.type
class RequestCancellationPayload(Payload):
    cancel_quote: CancelQuote | None = None


@strawberry.type
class CancelRedemptionPayload(Payload):
    redemption: Redemption | None = None


@strawberry.type
class DonatePointsPayload(Payload):
    donation: Donation | None = None


@strawberry.type
class ReverseDonationPayload(Payload):
    donation: Donation | None = None


@strawberry.type
class GrantConsentPayload(Payload):
    consent: Consent | None = None


@strawberry.type
class RevokeConsentPayload(Payload):
    consent: Consent | None = None


def _order(input: RequestQuoteInput | RedeemOfferInput) -> dict[str, Any]:
    """What is wanted and how it is paid."""
    return {
        "offer_id": input.offer,
        "slot": input.slot,
        "quantity": input.quantity,
        "bill_fen": input.bill_fen,
        "legs": tuple(LegInput(leg.programme, leg.points) for leg in input.legs),
        "cash_fen": input.cash_fen,
    }


async def _quoted(info: Info, input: RequestQuoteInput) -> RequestQuotePayload:
    """Ask a quote once for its key. Two requests at once may both ask; the first one counts."""
    context = info.context
    asked = given(input)
    claim = {"scope": context.scope("requestQuote"), "key": asked.pop("idempotency_key")}
    wanted = quotes.Request(member_id=member_of(info), **_order(input))
    quote, replayed = await context.services.redemptions.quote_once(
        wanted, claim={**claim, "input": asked}
    )
    return RequestQuotePayload(quote=Quote.of(quote), replayed=replayed)


@strawberry.type
class MemberMutation:
    @strawberry.mutation(extensions=[Effect(steps=True)])
    async def request_quote(self, info: Info, input: RequestQuoteInput) -> RequestQuotePayload:
        """Ask a binding price: 1 to 3 programmes, and cash. Nothing is held yet."""
        return await _quoted(info, input)

    @strawberry.mutation(extensions=[Effect(steps=True)])
    async def hold_redemption(
        self, info: Info, input: HoldRedemptionInput
    ) -> HoldRedemptionPayload:
        """Hold the points, then the partner's side, for a quote."""
        found, replayed = await info.context.services.redemptions.hold(
            member_id=member_of(info), quote_id=input.quote, key=input.idempotency_key
        )
        return HoldRedemptionPayload(redemption=Redemption.of(found), replayed=replayed)

    @strawberry.mutation(extensions=[Effect(steps=True)])
    async def confirm_redemption(
        self, info: Info, input: ConfirmRedemptionInput
    ) -> ConfirmRedemptionPayload:
        """Spend what is held: the point of no return."""
        found, replayed = await info.context.services.redemptions.confirm(
            member_id=member_of(info), redemption_id=input.redemption, key=input.idempotency_key
        )
        return ConfirmRedemptionPayload(redemption=Redemption.of(found), replayed=replayed)

    @strawberry.mutation(extensions=[Effect(steps=True)])
    async def redeem_offer(self, info: Info, input: RedeemOfferInput) -> RedeemOfferPayload:
        """Quote, hold and confirm in one."""
        found, replayed = await info.context.services.redemptions.redeem(
            member_id=member_of(info), key=input.idempotency_key, **_order(input)
        )
        return RedeemOfferPayload(redemption=Redemption.of(found), replayed=replayed)

    @strawberry.mutation(extensions=[Effect(steps=True)])
    async def release_redemption(
        self, info: Info, input: ReleaseRedemptionInput
    ) -> ReleaseRedemptionPayload:
        """Give up what is held; the points are back at once."""
        found, replayed = await info.context.services.redemptions.release(
            member_id=member_of(info), redemption_id=input.redemption, key=input.idempotency_key
        )
        return ReleaseRedemptionPayload(redemption=Redemption.of(found), replayed=replayed)

    @strawberry.mutation(extensions=[Effect(steps=True)])
    async def request_cancellation(
        self, info: Info, input: RequestCancellationInput
    ) -> RequestCancellationPayload:
        """Ask what cancelling would give back; nothing changes, so asking again is asking anew."""
        found = await info.context.services.redemptions.cancel_quote(
            member_id=member_of(info), redemption_id=input.redemption
        )
        return RequestCancellationPayload(cancel_quote=CancelQuote.of(found))

    @strawberry.mutation(extensions=[Effect(steps=True)])
    async def cancel_redemption(
        self, info: Info, input: CancelRedemptionInput
    ) -> CancelRedemptionPayload:
        """Cancel as quoted; the points come back when the partner has cancelled."""
        found, replayed = await info.context.services.redemptions.cancel(
            member_id=member_of(info),
            redemption_id=input.redemption,
            cancel_quote_id=input.cancel_quote,
            key=input.idempotency_key,
        )
        return CancelRedemptionPayload(redemption=Redemption.of(found), replayed=replayed)

    @strawberry.mutation(extensions=[Effect()])
    async def donate_points(self, info: Info, input: DonatePointsInput) -> DonatePointsPayload:
        """Burn the member's points; the charity gets goods."""
        found, replayed = await donations.donate(
            info.context.tx,
            member_id=member_of(info),
            beneficiary=input.beneficiary,
            programme_id=input.programme,
            points_given=input.points,
            key=input.idempotency_key,
            now=info.context.now,
        )
        return DonatePointsPayload(donation=Donation.of(found), replayed=replayed)

    @strawberry.mutation(extensions=[Effect()])
    async def reverse_donation(
        self, info: Info, input: ReverseDonationInput
    ) -> ReverseDonationPayload:
        """Take a donation back within 24 hours."""
        found, replayed = await donations.reverse(
            info.context.tx,
            member_id=member_of(info),
            donation_id=input.donation,
            key=input.idempotency_key,
            now=info.context.now,
        )
        return ReverseDonationPayload(donation=Donation.of(found), replayed=replayed)

    @strawberry.mutation(extensions=[Effect()])
    async def grant_consent(self, info: Info, input: GrantConsentInput) -> GrantConsentPayload:
        """Agree to one purpose; a pair of partners is agreed to by itself."""
        context, member_id = info.context, member_of(info)
        for name in ("issuer", "redeemer"):
            party = getattr(input, name)
            if party is not None and await context.loaders.merchants.load(party) is None:
                raise NotFound(field=(name,), id=party)
        done = await context.once(
            "grantConsent",
            input,
            lambda tx: members.grant_consent(
                tx,
                member_id=member_id,
                purpose=input.purpose,
                issuer=input.issuer,
                redeemer=input.redeemer,
                now=context.now,
            ),
        )
        return GrantConsentPayload(consent=await _consent(info, done.id), replayed=done.replayed)

    @strawberry.mutation(extensions=[Effect()])
    async def revoke_consent(self, info: Info, input: RevokeConsentInput) -> RevokeConsentPayload:
        """Take a consent back, from now on."""
        context, member_id = info.context, member_of(info)

        async def revoke(tx: AsyncConnection) -> str:
            await members.revoke_consent(
                tx, consent_id=input.consent, member_id=member_id, now=context.now
            )
            return input.consent

        done = await context.once("revokeConsent", input, revoke)
        return RevokeConsentPayload(consent=await _consent(info, done.id), replayed=done.replayed)


async def _consent(info: Info, consent_id: str) -> Consent:
    found = await members.consents(info.context.tx, member_of(info))
    return next(Consent.of(consent) for consent in found if consent.id == consent_id)
