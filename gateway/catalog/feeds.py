"""Pulling partners' change feeds: a page asked, a page taken over, each in its own step."""

from datetime import datetime

from gateway.catalog import store
from gateway.catalog.model import FeedResult
from gateway.catalog.publishing import apply_feed
from gateway.db import Database
from gateway.ports import Partner


async def pull_feed(
    database: Database, partner: Partner, *, now: datetime, pages: int = 1_000
) -> list[FeedResult]:
    """Read a partner's change feed from where it was left: one transaction a page.

    No transaction is open while the partner is asked; a crash in between reads a page again,
    which changes nothing.

    Args:
        pages: Most pages read; the rest is read the next time.

    Raises:
        PartnerUnavailable: It was not reached; the pages read so far are kept.
    """
    merchant_id = partner.code
    async with database.reading() as tx:
        cursor = await store.cursor_of(tx, merchant_id)
    results: list[FeedResult] = []
    while len(results) < pages:
        page = await partner.list_offers(cursor)
        async with database.transaction() as tx:
            results.append(await apply_feed(tx, merchant_id=merchant_id, page=page, now=now))
        cursor = page.cursor
        if not page.more:
            break
    return results
