"""What a merchant does: keys, programme, offers, members, purchases, vouchers, agreements."""

import hashlib
from typing import Any

import strawberry
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.api.catalog_types import Offer, Programme
from gateway.api.context import Info, given
from gateway.api.errors import Effect
from gateway.api.partner import merchant_of
from gateway.api.partner_inputs import (
    AcknowledgeSettlementLegInput,
    AcknowledgeSettlementLegPayload,
    ClientKey,
    EarnRuleInput,
    ProposeAgreementInput,
    ProposeAgreementPayload,
    PublishOfferInput,
    PublishOfferPayload,
    PublishProgrammePolicyInput,
    PublishProgrammePolicyPayload,
    RecordEarnEventInput,
    RecordEarnEventPayload,
    RecordFulfilmentInput,
    RecordFulfilmentPayload,
    RecordReturnInput,
    RecordReturnPayload,
    RegisterClientKeyInput,
    RegisterClientKeyPayload,
    RegisterMemberInput,
    RegisterMemberPayload,
    SignAgreementInput,
    SignAgreementPayload,
    StartConformanceRunInput,
    StartConformanceRunPayload,
    SuspendOfferInput,
    SuspendOfferPayload,
    VerifyVoucherInput,
    VerifyVoucherPayload,
)
from gateway.api.partner_types import (
    Agreement,
    ConformanceRun,
    Earning,
    EarnReturn,
    RegisteredMember,
    SettlementLeg,
    to_sign,
)
from gateway.api.redemption_types import Redemption
from gateway.catalog import service as catalog
from gateway.compliance import service as compliance
from gateway.db import system_now
from gateway.errors import NotFound
from gateway.members import service as members
from gateway.merchants import service as merchants
from gateway.oauth import service as oauth
from gateway.oauth.guard import Unauthenticated, require_scope
from gateway.oauth.scopes import Role
from gateway.points import service as points
from gateway.promotions import service as promotions
from gateway.settlement import service as settlement
from gateway.settlement.model import Agreement as StoredAgreement
from gateway.settlement.model import AgreementKind
from gateway.values import MAX_AMOUNT, InvalidInput, Rate


async def _who_registers(info: Info, tx: AsyncConnection, input: RegisterClientKeyInput) -> str:
    """The merchant whose key it is.

    Raises:
        OnboardingCodeInvalid: The code is used, expired or unknown.
        Unauthenticated, ScopeMissing: Neither a code nor a token that may.
    """
    context = info.context
    if input.onboarding_code is not None:
        return await merchants.use_onboarding_code(tx, code=input.onboarding_code, now=context.now)
    if context.actor.role == Role.OPERATOR:
        require_scope(context.actor, "merchants:write")
        return (await merchants.get(tx, input.merchant or "")).id
    if context.actor.merchant_id is None:
        raise Unauthenticated
    require_scope(context.actor, "keys:manage")
    if input.merchant not in (None, context.actor.merchant_id):
        raise NotFound(field=("merchant",), id=input.merchant)
    return context.actor.merchant_id


async def _register_key(info: Info, input: RegisterClientKeyInput) -> RegisterClientKeyPayload:
    caller = None
    if input.onboarding_code is not None:
        caller = f"code:{hashlib.sha256(input.onboarding_code.encode()).hexdigest()}"
    elif info.context.actor.anonymous:
        raise Unauthenticated

    async def register(tx: AsyncConnection) -> str:
        merchant_id = await _who_registers(info, tx, input)
        if not isinstance(input.jwk, dict):
            raise InvalidInput("jwk", "a JWK object")
        named = await merchants.get(tx, merchant_id)
        made = await oauth.register_key(
            tx,
            merchant_id=merchant_id,
            jwk=input.jwk,
            name_zh=named.name_zh,
            name_en=named.name_en,
            now=system_now(),  # OAuth keeps system time.
        )
        return f"{made.client_id} {made.kid}"

    done = await info.context.once("registerClientKey", _hashed(input), register, caller=caller)
    client, kid = done.id.split(" ")
    return RegisterClientKeyPayload(
        key=ClientKey(client=strawberry.ID(client), kid=kid), replayed=done.replayed
    )


def _hashed(input: RegisterClientKeyInput) -> RegisterClientKeyInput:
    """The input without its secret: a fingerprint must not lead back to a code."""
    return RegisterClientKeyInput(
        jwk=input.jwk, idempotency_key=input.idempotency_key, merchant=input.merchant
    )


async def _publish_policy(
    info: Info, input: PublishProgrammePolicyInput
) -> PublishProgrammePolicyPayload:
    context = info.context
    if context.actor.role == Role.OPERATOR:
        if input.issuer is None:
            raise InvalidInput("issuer", "the operator names the issuer")
        issuer = (await merchants.get(context.tx, input.issuer)).id
    else:
        issuer = merchant_of(info)
        if input.issuer not in (None, issuer):
            raise NotFound(field=("issuer",), id=input.issuer)
    if input.value.num < 1 or input.value.den < 1:
        raise InvalidInput("value", "num and den at least 1")
    if input.validity_months is not None and not 1 <= input.validity_months <= _MONTHS:
        raise InvalidInput("validity_months", "1 to {most}, or none for life", most=_MONTHS)
    if not 0 <= input.compensation_bps <= 10_000:
        raise InvalidInput("compensation_bps", "{least} to {most}", least=0, most=10_000)
    for name in ("programme", "name_zh", "unit_zh"):
        if not getattr(input, name).strip():
            raise InvalidInput(name, "a text")

    async def publish(tx: AsyncConnection) -> str:
        made = await points.publish_policy(
            tx,
            programme_id=input.programme,
            issuer=issuer,
            name_zh=input.name_zh,
            unit_zh=input.unit_zh,
            rate=Rate(input.value.num, input.value.den),
            earn=_earn_rule(input.earn),
            months=input.validity_months,
            disclosure=given(input.disclosure) if input.disclosure else {},
            compensation_bps=input.compensation_bps,
            now=context.now,
        )
        return made.id

    done = await context.once("publishProgrammePolicy", input, publish)
    found = await points.programme(context.tx, done.id)
    return PublishProgrammePolicyPayload(programme=Programme.of(found), replayed=done.replayed)


_MONTHS = 1_200
_EARN_NEEDS = {
    "per_amount": ("points", "per_fen"),
    "per_night": ("tiers",),
    "per_distance": ("factor_pct",),
}


def _earn_rule(input: EarnRuleInput) -> dict[str, Any]:
    """The rule as it is stored.

    Raises:
        InvalidInput: It lacks what its kind counts by.
    """
    rule = {name: value for name, value in given(input).items() if value is not None}
    for name in _EARN_NEEDS.get(input.kind, ()):
        value = rule.get(name)
        values = list(value.values()) if isinstance(value, dict) else [value]
        whole = all(type(number) is int and 0 < number <= MAX_AMOUNT for number in values)
        if not values or not whole:
            raise InvalidInput(f"earn.{name}", "whole numbers above 0")
    return rule


async def _earned_by(info: Info, input: RecordEarnEventInput) -> str:
    """The member a purchase is recorded for.

    Raises:
        InvalidInput: It is named twice, or not at all.
        NotFound: The merchant knows no such member.
    """
    context, merchant_id = info.context, merchant_of(info)
    if (input.member is None) == (input.partner_member_ref is None):
        raise InvalidInput("member", "either member or partnerMemberRef")
    if input.partner_member_ref is not None:
        found = await members.by_reference(
            context.tx, merchant_id=merchant_id, partner_member_ref=input.partner_member_ref
        )
        if found is None:
            raise NotFound(field=("partner_member_ref",), id=input.partner_member_ref)
        return found
    assert input.member is not None
    if not await members.related(context.tx, input.member, merchant_id):
        raise NotFound(field=("member",), id=input.member)
    return input.member


async def _record_earn(info: Info, input: RecordEarnEventInput) -> RecordEarnEventPayload:
    context, merchant_id = info.context, merchant_of(info)

    async def record(tx: AsyncConnection) -> str:
        member_id = await _earned_by(info, input)
        programme = await points.programme_of(tx, merchant_id)
        if programme is None:
            raise NotFound(id=f"programme of {merchant_id}")
        at = input.at or context.now
        if at > context.now:
            raise InvalidInput("at", "not in the future")
        rule = await promotions.earn_rule(
            tx,
            programme_id=programme.id,
            town=input.town,
            cash_fen=input.cash_fen or 0,
            at=at,
        )
        made = await points.earn(
            tx,
            programme_id=programme.id,
            member_id=member_id,
            ref=input.order,
            cash_fen=input.cash_fen,
            nights=input.nights,
            distance_km=input.distance_km,
            fare_class=input.fare_class,
            category=input.category,
            at=at,
            consumed=input.consumed,
            multiplier=rule.multiplier,
            bonus=rule.bonus,
            actor=context.actor.subject,
            live=not context.services.settings.sandbox,
            now=context.now,
        )
        return made.id

    done = await context.once("recordEarnEvent", input, record)
    made = await points.earning(context.tx, done.id)
    return RecordEarnEventPayload(
        earning=Earning.of(made),
        available=await points.available(
            context.tx, member_id=made.member_id, issuer=merchant_id, now=context.now
        ),
        budget_left_fen=await compliance.budget_left(context.tx, merchant_id),
        replayed=done.replayed,
    )


async def _record_return(info: Info, input: RecordReturnInput) -> RecordReturnPayload:
    context, taken = info.context, None

    async def record(tx: AsyncConnection) -> str:
        nonlocal taken
        taken = await points.record_return(
            tx,
            issuer=merchant_of(info),
            ref=input.order,
            cash_fen=input.cash_fen,
            actor=context.actor.subject,
            now=context.now,
        )
        return taken.earning_id

    done = await context.once("recordReturn", input, record)
    made = await points.earning(context.tx, done.id)
    return RecordReturnPayload(
        earning=Earning.of(made),
        taken=EarnReturn.of(taken) if taken is not None else None,
        replayed=done.replayed,
    )


def _version(made: StoredAgreement) -> str:
    return f"{made.id} {made.version}"


async def _agreement(tx: AsyncConnection, done_id: str) -> Agreement:
    found = await settlement.agreements(tx, agreement_ids=[done_id.split(" ", maxsplit=1)[0]])
    return Agreement.of(next(row for row in found if _version(row) == done_id))


async def _acknowledge(
    info: Info, input: AcknowledgeSettlementLegInput
) -> AcknowledgeSettlementLegPayload:
    context, merchant_id = info.context, merchant_of(info)

    async def acknowledge(tx: AsyncConnection) -> str:
        mine = await settlement.legs(tx, merchant=merchant_id)
        leg = next((leg for leg in mine if leg.id == input.leg), None)
        if leg is None:
            raise NotFound(field=("leg",), id=input.leg)
        notice = await settlement.notice(tx, leg.id)
        await oauth.verify_signature(
            tx,
            client_id=context.actor.client_id,
            payload=to_sign(notice).encode(),
            signature=input.signature,
        )
        await settlement.acknowledge_leg(
            tx,
            leg_id=leg.id,
            merchant=merchant_id,
            client_id=context.actor.client_id,
            signature=input.signature,
            now=context.now,
        )
        return leg.id

    done = await context.once("acknowledgeSettlementLeg", input, acknowledge)
    found = await settlement.leg(context.tx, done.id)
    return AcknowledgeSettlementLegPayload(leg=SettlementLeg.of(found), replayed=done.replayed)


@strawberry.type
class PartnerMutation:
    @strawberry.mutation(extensions=[Effect()])
    async def register_client_key(
        self, info: Info, input: RegisterClientKeyInput
    ) -> RegisterClientKeyPayload:
        """Register a public key: the first one with the onboarding code, without a token."""
        return await _register_key(info, input)

    @strawberry.mutation(extensions=[Effect()])
    async def publish_programme_policy(
        self, info: Info, input: PublishProgrammePolicyInput
    ) -> PublishProgrammePolicyPayload:
        """Publish a programme or its next policy; what was promised before is kept."""
        return await _publish_policy(info, input)

    @strawberry.mutation(extensions=[Effect()])
    async def publish_offer(self, info: Info, input: PublishOfferInput) -> PublishOfferPayload:
        """Publish an offer for a merchant without a server, or its next version."""
        context, merchant_id = info.context, merchant_of(info)
        if input.attributes is not None and not isinstance(input.attributes, dict):
            raise InvalidInput("attributes", "an object")
        attributes = input.attributes

        async def publish(tx: AsyncConnection) -> str:
            made = await catalog.publish_offer(
                tx,
                merchant_id=merchant_id,
                id=input.offer,
                name_zh=input.name_zh,
                name_en=input.name_en,
                kind=input.kind,
                category=input.category,
                cash_fen=input.cash_fen,
                own_points=input.own_points,
                own_priced_by=input.own_priced_by,
                guarantee=given(input.guarantee) if input.guarantee else None,
                attributes=attributes,
                now=context.now,
            )
            return made.id

        done = await context.once("publishOffer", input, publish)
        found = await catalog.offer(context.tx, done.id)
        return PublishOfferPayload(offer=Offer.of(found), replayed=done.replayed)

    @strawberry.mutation(extensions=[Effect()])
    async def suspend_offer(self, info: Info, input: SuspendOfferInput) -> SuspendOfferPayload:
        """Suspend an offer, or resume it: a merchant its own, the operator anyone's."""
        context = info.context

        async def suspend(tx: AsyncConnection) -> str:
            made = await catalog.suspend_offer(
                tx,
                offer_id=input.offer,
                reason=input.reason,
                now=context.now,
                merchant_id=context.actor.merchant_id,
            )
            return made.id

        done = await context.once("suspendOffer", input, suspend)
        found = await catalog.offer(context.tx, done.id)
        return SuspendOfferPayload(offer=Offer.of(found), replayed=done.replayed)

    @strawberry.mutation(extensions=[Effect()])
    async def register_member(
        self, info: Info, input: RegisterMemberInput
    ) -> RegisterMemberPayload:
        """Register a person by the merchant's own reference, with the consents it gave."""
        context, merchant_id = info.context, merchant_of(info)

        async def register(tx: AsyncConnection) -> str:
            made = await members.register(
                tx,
                name_zh=input.name_zh,
                city=input.city,
                consents=[{"purpose": purpose} for purpose in input.consents],
                merchant_id=merchant_id,
                partner_member_ref=input.partner_member_ref,
                birth_on=input.birth_on,
                now=context.now,
            )
            return made.id

        done = await context.once("registerMember", input, register)
        member = RegisteredMember(
            id=strawberry.ID(done.id), partner_member_ref=input.partner_member_ref
        )
        return RegisterMemberPayload(member=member, replayed=done.replayed)

    @strawberry.mutation(extensions=[Effect()])
    async def record_earn_event(
        self, info: Info, input: RecordEarnEventInput
    ) -> RecordEarnEventPayload:
        """Record a purchase; the merchant's programme computes its points."""
        return await _record_earn(info, input)

    @strawberry.mutation(extensions=[Effect()])
    async def record_return(self, info: Info, input: RecordReturnInput) -> RecordReturnPayload:
        """Record that a purchase was returned; its points go back."""
        return await _record_return(info, input)

    @strawberry.mutation(extensions=[Effect(steps=True)])
    async def verify_voucher(self, info: Info, input: VerifyVoucherInput) -> VerifyVoucherPayload:
        """Take a voucher at the till: once, and its claims become clearable."""
        found, replayed = await info.context.services.redemptions.verify_voucher(
            merchant_id=merchant_of(info),
            code=input.code,
            holder=input.holder,
            key=input.idempotency_key,
        )
        return VerifyVoucherPayload(redemption=Redemption.of(found), replayed=replayed)

    @strawberry.mutation(extensions=[Effect(steps=True)])
    async def record_fulfilment(
        self, info: Info, input: RecordFulfilmentInput
    ) -> RecordFulfilmentPayload:
        """Record that a redemption was consumed; a lower final fare gives the difference back."""
        found, replayed = await info.context.services.redemptions.record_fulfilment(
            merchant_id=merchant_of(info),
            redemption_id=input.redemption,
            final_fare_fen=input.final_fare_fen,
            key=input.idempotency_key,
        )
        return RecordFulfilmentPayload(redemption=Redemption.of(found), replayed=replayed)

    @strawberry.mutation(extensions=[Effect()])
    async def propose_agreement(
        self, info: Info, input: ProposeAgreementInput
    ) -> ProposeAgreementPayload:
        """Propose terms between an issuer and a redeemer; the proposer has signed them."""
        context, merchant_id = info.context, merchant_of(info)
        terms = {name: value for name, value in given(input).items() if name != "idempotency_key"}
        if input.kind not in set(AgreementKind):
            raise InvalidInput("kind", "one of {values}", values=[*AgreementKind])

        async def propose(tx: AsyncConnection) -> str:
            known = await merchants.get_many(tx, [input.issuer, input.redeemer])
            for name in ("issuer", "redeemer"):
                if terms[name] not in known:
                    raise NotFound(field=(name,), id=terms[name])
            made = await settlement.propose_agreement(
                tx, proposer=merchant_id, now=context.now, **terms
            )
            return _version(made)

        done = await context.once("proposeAgreement", input, propose)
        found = await _agreement(context.tx, done.id)
        return ProposeAgreementPayload(agreement=found, replayed=done.replayed)

    @strawberry.mutation(extensions=[Effect()])
    async def sign_agreement(self, info: Info, input: SignAgreementInput) -> SignAgreementPayload:
        """Sign the newest version of an agreement; in force once all its parties have."""
        context, merchant_id = info.context, merchant_of(info)

        async def sign(tx: AsyncConnection) -> str:
            made = await settlement.sign_agreement(
                tx,
                agreement_id=input.agreement,
                merchant_id=merchant_id,
                version=input.version,
                now=context.now,
            )
            return _version(made)

        done = await context.once("signAgreement", input, sign)
        found = await _agreement(context.tx, done.id)
        return SignAgreementPayload(agreement=found, replayed=done.replayed)

    @strawberry.mutation(extensions=[Effect(steps=True)])
    async def start_conformance_run(
        self, info: Info, input: StartConformanceRunInput
    ) -> StartConformanceRunPayload:
        """Check the merchant against the partner contract. It leaves nothing behind."""
        del input
        run = await info.context.services.certify(merchant_of(info))
        return StartConformanceRunPayload(run=ConformanceRun.of(run))

    @strawberry.mutation(extensions=[Effect()])
    async def acknowledge_settlement_leg(
        self, info: Info, input: AcknowledgeSettlementLegInput
    ) -> AcknowledgeSettlementLegPayload:
        """Answer a settlement notice with a signature by the merchant's own client."""
        return await _acknowledge(info, input)
