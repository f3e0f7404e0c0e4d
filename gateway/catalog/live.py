"""Live prices, stock and slots: one call per partner, all at once, none waited for too long."""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import date

from gateway.catalog.model import Offer, Warning  # noqa: A004 - the API's own word for it.
from gateway.errors import PartnerRejected, PartnerUnavailable
from gateway.ports import LiveOffer, Partner

BATCH = 100  # Most offers a partner is asked for in one call.


async def live(
    partners: Mapping[str, Partner],
    offers: Iterable[Offer],
    *,
    on: date | None,
    timeout: float,  # noqa: ASYNC109 - partners that answered in time count, so no outer timeout.
) -> tuple[dict[str, LiveOffer], list[Warning]]:
    """Ask every offer's partner, one batch each, concurrently, until the deadline.

    Args:
        offers: Offers kept here for merchants without a server count only if somebody answers
            for them.
        on: Business day whose slots are wanted.
        timeout: Seconds of system time for all partners together.

    Returns:
        Offer id to its live state, and a warning per partner that failed or was late. A
        failure is never raised: the catalog is shown without the partner's live data.
    """
    wanted: dict[str, list[str]] = {}
    for offer in offers:
        if not offer.hosted or partners.get(offer.merchant_id):
            wanted.setdefault(offer.merchant_id, []).append(offer.id)
    tasks = {
        asyncio.create_task(_ask(partners.get(merchant), merchant, ids, on)): merchant
        for merchant, ids in sorted(wanted.items())
    }
    if not tasks:
        return {}, []
    done, late = await asyncio.wait(tasks, timeout=timeout)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    found: dict[str, LiveOffer] = {}
    warnings: list[Warning] = []
    for task, merchant in tasks.items():
        failure = task.exception() if task in done else PartnerUnavailable(merchant=merchant)
        if failure is None:
            found |= {answer.offer_id: answer for answer in task.result()}
        elif isinstance(failure, PartnerUnavailable | PartnerRejected):
            kind = PartnerRejected if isinstance(failure, PartnerRejected) else PartnerUnavailable
            message = kind.zh.format(merchant=merchant)
            warnings.append(Warning(merchant, failure.code, message))
        else:
            raise failure
    return found, warnings


async def _ask(
    partner: Partner | None, merchant: str, ids: list[str], on: date | None
) -> list[LiveOffer]:
    if partner is None:
        raise PartnerUnavailable(merchant=merchant)
    answers: list[LiveOffer] = []
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        asked = set(batch)
        answers += [a for a in await partner.live(batch, on=on) if a.offer_id in asked]
    return answers
