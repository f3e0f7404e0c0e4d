"""What members see of their own."""

import strawberry

from gateway.api import connections
from gateway.api.connections import Connection
from gateway.api.context import Context, Info, given
from gateway.api.redemption_types import (
    Consent,
    Donation,
    Quote,
    Redemption,
    Wallet,
    may_see,
    saved_fen,
)
from gateway.api.scalars import Fen, Points, Rate, RateInput
from gateway.catalog import quotes
from gateway.errors import NotFound
from gateway.members import service as members
from gateway.promotions import savings as calculator
from gateway.redemption import donations
from gateway.redemption import service as redemptions
from gateway.redemption.model import Redemption as StoredRedemption
from gateway.values import InvalidInput, amount, business_day
from gateway.values import Rate as ExactRate

_PLAN_LIMIT = 2**31 - 1  # A plan's figures are shown as a rate of 32-bit integers.
_PLAN_SERVICES = 1_000  # Each is computed and listed.


@strawberry.input
class RedemptionsFilter:
    states: list[str] | None = None


@strawberry.input
class SavingsInput:
    """A plan: what is earned each month, and what it is saved for.

    Give `points_per_month`, or a `bill_fen` of which only the cash part earns.
    """

    value: RateInput
    target_points: Points
    target_fen: Fen
    months: int = 12
    points_per_month: Points | None = None
    bill_fen: Fen | None = None
    per_fen: Fen = 100


@strawberry.type
class Savings:
    """Two honest figures: what the points are worth, and what can be had for them."""

    earned_points: Points
    value_fen: Fen
    services: int
    saved_fen: Fen
    points_left: Points
    redeemed_in_months: list[int]
    month_end_balances: list[Points]
    months_to_target: int
    fen_per_point: Rate


@strawberry.type
class SavedAt:
    """What points have paid at one merchant in one year."""

    merchant: strawberry.ID
    year: int
    fen: Fen
    redemptions: list[strawberry.ID]


@strawberry.type
class Saved:
    """What points have paid so far, in fen; each line names its redemptions."""

    total_fen: Fen
    lines: list[SavedAt]


@strawberry.type
class Me:
    """The member who asks."""

    id: strawberry.ID
    name_zh: str
    kind: str
    city: str

    @strawberry.field
    async def wallets(self, info: Info) -> list[Wallet]:
        """Points by programme; they are never added up."""
        return [
            Wallet(
                available=wallet.available,
                pending=wallet.pending,
                held=wallet.held,
                owed=wallet.owed,
                as_of=info.context.now,
                programme_id=wallet.programme_id,
                member_id=self.id,
            )
            for wallet in await info.context.loaders.wallets.load(self.id) or ()
        ]

    @strawberry.field
    async def consents(self, info: Info) -> list[Consent]:
        async with info.context.reading() as tx:
            return [Consent.of(consent) for consent in await members.consents(tx, self.id)]

    @strawberry.field
    async def saved(self, info: Info) -> Saved:
        """What points have saved so far, per merchant and year."""
        found: dict[tuple[str, int], list[StoredRedemption]] = {}
        for redemption in await _all_redemptions(info.context, self.id):
            if redemption.committed_at is not None and saved_fen(redemption):
                key = (redemption.merchant_id, business_day(redemption.committed_at).year)
                found.setdefault(key, []).append(redemption)
        lines = [
            SavedAt(
                merchant=strawberry.ID(merchant),
                year=year,
                fen=sum(saved_fen(redemption) for redemption in rows),
                redemptions=[strawberry.ID(redemption.id) for redemption in rows],
            )
            for (merchant, year), rows in sorted(found.items())
        ]
        return Saved(total_fen=sum(line.fen for line in lines), lines=lines)


async def _all_redemptions(context: Context, member_id: str) -> list[StoredRedemption]:
    found: list[StoredRedemption] = []
    async with context.reading() as tx:
        while True:
            after = (found[-1].created_at, found[-1].id) if found else None
            rows = await redemptions.redemptions(
                tx, member_id=member_id, after=after, limit=connections.PAGE_LIMIT
            )
            found += rows
            if len(rows) < connections.PAGE_LIMIT:
                return found


@strawberry.type
class MemberQuery:
    """What members see of their own."""

    @strawberry.field
    async def me(self, info: Info) -> Me | None:
        found = await info.context.loaders.members.load(member_of(info))
        if found is None:
            return None
        return Me(
            id=strawberry.ID(found.id), name_zh=found.name_zh, kind=found.kind, city=found.city
        )

    @strawberry.field
    async def quote(self, info: Info, id: strawberry.ID) -> Quote | None:
        async with info.context.reading() as tx:
            try:
                return Quote.of(await quotes.quote(tx, id, member_id=member_of(info)))
            except NotFound:
                return None

    @strawberry.field
    async def redemption(self, info: Info, id: strawberry.ID) -> Redemption | None:
        found = await info.context.loaders.redemptions.load(id)
        return Redemption.of(found) if found is not None and may_see(info, found) else None

    @strawberry.field
    async def redemptions(
        self,
        info: Info,
        filter: RedemptionsFilter | None = None,
        first: int = connections.PAGE_SIZE,
        after: str | None = None,
    ) -> Connection[Redemption]:
        """The member's redemptions, newest first."""
        count, start = connections.size(first), connections.key_of(after)
        last = await info.context.loaders.redemptions.load(start) if start else None
        if start and (last is None or last.member_id != member_of(info)):
            raise InvalidInput("after", "a cursor of this list")
        async with info.context.reading() as tx:
            found = await redemptions.redemptions(
                tx,
                member_id=member_of(info),
                states=given(filter).get("states") if filter else None,
                after=(last.created_at, last.id) if last else None,
                limit=count + 1,
            )
        return connections.page(
            found, Redemption.of, key=lambda row: row.id, first=count, after=None
        )

    @strawberry.field
    async def donation(self, info: Info, id: strawberry.ID) -> Donation | None:
        async with info.context.reading() as tx:
            try:
                found = await donations.donation(tx, id)
            except NotFound:
                return None
        return Donation.of(found) if found.member_id == member_of(info) else None

    @strawberry.field
    def savings(self, input: SavingsInput) -> Savings:
        """What a plan saves; every figure is computed from its own assumptions."""
        for name in ("target_points", "target_fen", "per_fen"):
            if amount(getattr(input, name), field=f"input.{name}") > _PLAN_LIMIT:
                raise InvalidInput(f"input.{name}", "at most {most}", most=_PLAN_LIMIT)
        if not 1 <= input.months <= 600:
            raise InvalidInput("input.months", "{least} to {most}", least=1, most=600)
        if input.value.num < 1 or input.value.den < 1:
            raise InvalidInput("input.value", "num and den at least 1")
        rate = ExactRate(input.value.num, input.value.den)
        target = calculator.Target(input.target_points, input.target_fen)
        if input.bill_fen is not None:
            bill = amount(input.bill_fen, field="input.bill_fen")
            monthly = amount(bill // input.per_fen, field="input.bill_fen")
            result = calculator.by_cash(
                target, months=input.months, bill_fen=bill, per_fen=input.per_fen, rate=rate
            )
        else:
            monthly = amount(input.points_per_month or 0, field="input.points_per_month")
            if monthly * input.months > _PLAN_SERVICES * input.target_points:
                raise InvalidInput(
                    "input.points_per_month", "for at most {most} times", most=_PLAN_SERVICES
                )
            result = calculator.by_points(
                target, months=input.months, points_per_month=monthly, rate=rate
            )
        worth = target.fen_per_point
        return Savings(
            earned_points=result.earned_points,
            value_fen=result.value_fen,
            services=result.services,
            saved_fen=result.saved_fen,
            points_left=result.points_left,
            redeemed_in_months=list(result.redeemed_in_months),
            month_end_balances=list(result.month_end_balances),
            months_to_target=calculator.reach(target, points_per_month=monthly).months,
            fen_per_point=Rate(num=worth.numerator, den=worth.denominator),
        )


def member_of(info: Info) -> str:
    member_id = info.context.actor.member_id
    assert member_id is not None, "the policy lets members in only"
    return member_id
