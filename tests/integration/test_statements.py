"""Upper bounds of SQL statements per operation over HTTP, so that no N+1 comes back."""

from tests.bench import statements
from tests.integration.api.conftest import gateway

__all__ = ["gateway"]

MOST = {
    "catalog page of 20 offers": 6,
    "requestQuote": 2,
    "holdRedemption": 3,
    "confirmRedemption": 2,
    "redeemOffer": 5,
    "requestCancellation": 3,
    "cancelRedemption": 18,
    "recordFulfilment": 5,
    "recordEarnEvent": 22,
    "donatePoints": 26,
    "closeSettlementWindow": 17,
}
ADVISORY_LOCKS = 4  # PostgreSQL takes them by statements of their own.


async def test_no_operation_takes_more_statements_than_it_needs(gateway) -> None:
    counts = await statements.count(gateway)
    assert counts.keys() == MOST.keys()
    more = ADVISORY_LOCKS if gateway.runtime.database.url.startswith("postgresql") else 0
    above = {name: found for name, found in counts.items() if found > MOST[name] + more}
    assert above == {}
