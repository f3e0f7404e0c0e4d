"""The checks a merchant can run on itself: harmless questions through the port, and its data.

They book nothing: each asks what may be asked at any time. The full contract with bookings and
faults runs against a sandbox (`gateway certify-partner`).
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta

from gateway.api.context import Conformance
from gateway.catalog import service as catalog
from gateway.catalog.model import OfferFilter
from gateway.db import Clock, Database
from gateway.errors import NoAnswer, PartnerRejected
from gateway.merchants import service as merchants
from gateway.points import service as points
from gateway.points.model import missing_disclosures
from gateway.ports import Capability, Outcome, Partner
from gateway.values import business_day, new_id

Check = Callable[["Subject"], Awaitable[str | None]]


class Skip(Exception):
    """The check does not apply; says why."""


class Subject:
    """The merchant that is checked."""

    def __init__(self, database: Database, partner: Partner, merchant: str, clock: Clock) -> None:
        self.database = database
        self.partner = partner
        self.merchant = merchant
        self.clock = clock

    async def offer_ids(self) -> list[str]:
        async with self.database.reading() as tx:
            asked = OfferFilter(merchant=self.merchant)
            page = await catalog.search(tx, filter=asked, first=100, at=self.clock.now())
        return [offer.id for offer in page.offers]


async def has_offers(subject: Subject) -> str | None:
    return None if await subject.offer_ids() else "no offer is published"


async def discloses_its_programme(subject: Subject) -> str | None:
    async with subject.database.reading() as tx:
        merchant = await merchants.get(tx, subject.merchant)
        programme = await points.programme_of(tx, subject.merchant)
    if "issuer" not in merchant.roles:
        raise Skip("it issues no points")
    if programme is None:
        return "no programme is published"
    missing = missing_disclosures(programme.disclosure)
    return f"disclosure missing: {', '.join(missing)}" if missing else None


async def prices_are_whole_fen(subject: Subject) -> str | None:
    ids = await subject.offer_ids()
    found = await subject.partner.live(ids, on=None)
    wrong = [live.offer_id for live in found if live.list_fen < 0]
    return f"below zero: {', '.join(wrong)}" if wrong else None


async def an_unknown_key_is_not_found(subject: Subject) -> str | None:
    _needs(subject, Capability.REDEEM)
    fact = await subject.partner.status(f"{new_id('red')}:hold:1")
    return None if fact.outcome is Outcome.NOT_FOUND else f"says {fact.outcome}"


async def a_fence_is_final(subject: Subject) -> str | None:
    _needs(subject, Capability.REDEEM)
    key = f"{new_id('red')}:hold:1"
    first, again = await subject.partner.fence(key), await subject.partner.fence(key)
    fenced = first.outcome is again.outcome is Outcome.FENCED
    return None if fenced else f"says {first.outcome}, then {again.outcome}"


async def a_statement_adds_up(subject: Subject) -> str | None:
    _needs(subject, Capability.STATEMENT)
    day = business_day(subject.clock.now() - timedelta(days=1))
    try:
        statement = await subject.partner.statement(day)
    except PartnerRejected as no:
        raise Skip(f"no statement of {day} yet") from no
    total = sum(line.amount_fen for line in statement.lines)
    trailer = (statement.trailer_count, statement.trailer_sum_fen)
    rows = (len(statement.lines), total)
    return None if trailer == rows else f"trailer {trailer}, rows {rows}"


CHECKS: dict[str, Check] = {
    "offers-published": has_offers,
    "programme-disclosed": discloses_its_programme,
    "prices-whole-fen": prices_are_whole_fen,
    "status-unknown-key": an_unknown_key_is_not_found,
    "fence-final": a_fence_is_final,
    "statement-adds-up": a_statement_adds_up,
}


async def certify(database: Database, partner: Partner, merchant: str, clock: Clock) -> Conformance:
    """Run every check against a merchant."""
    subject, outcomes = Subject(database, partner, merchant, clock), []
    for name, check in CHECKS.items():
        outcome, detail = "PASS", None
        try:
            detail = await check(subject)
            outcome = "FAIL" if detail else "PASS"
        except Skip as skip:
            outcome, detail = "SKIP", str(skip)
        except (NoAnswer, PartnerRejected) as error:
            outcome, detail = "FAIL", error.code
        outcomes.append((name, outcome, detail))
    return Conformance(merchant, tuple(outcomes))


def _needs(subject: Subject, capability: Capability) -> None:
    if capability not in subject.partner.capabilities:
        raise Skip(f"it does not claim {capability.name}")
