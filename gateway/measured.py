"""The database and the partners as a running process has them: measured, and with spans."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, cast

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import Database
from gateway.errors import OutcomeUnknown, PartnerUnavailable, Refused
from gateway.ports import Partner
from gateway.telemetry import metrics, tracing

VERBS = frozenset(
    {
        "list_offers",
        "live",
        "quote",
        "hold",
        "confirm",
        "status",
        "fence",
        "cancel_quote",
        "cancel",
        "statement",
        "settlement_notice",
    }
)


class MeasuredDatabase(Database):
    """A database that tells how long a transaction waited to begin."""

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        began = time.perf_counter()
        with tracing.span("transaction"):
            async with super().transaction() as tx:
                metrics.POOL_WAIT.labels("write").observe(time.perf_counter() - began)
                yield tx

    @contextlib.asynccontextmanager
    async def reading(self, *, one_state: bool = False) -> AsyncIterator[AsyncConnection]:
        began = time.perf_counter()
        async with super().reading(one_state=one_state) as tx:
            metrics.POOL_WAIT.labels("read").observe(time.perf_counter() - began)
            yield tx


def watched(partners: Mapping[str, Partner]) -> dict[str, Partner]:
    """The same partners, each verb measured by merchant and outcome, in a span of its own."""
    return {
        merchant: cast("Partner", _Watched(merchant, inner)) for merchant, inner in partners.items()
    }


class _Watched:
    """An adapter whose verbs are measured; all else is the adapter's."""

    def __init__(self, merchant: str, inner: Partner) -> None:
        self._merchant = merchant
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in VERBS:
            return found
        measured = _measured(self._merchant, name, found)
        setattr(self, name, measured)
        return measured


def _measured(
    merchant: str, verb: str, call: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    async def made(*given: Any, **named: Any) -> Any:
        began, outcome = time.perf_counter(), "failed"
        try:
            with tracing.span(f"partner {verb}", "client", merchant=merchant):
                answer = await call(*given, **named)
            outcome = "ok"
        except Refused:
            outcome = "rejected"
            raise
        except PartnerUnavailable:
            outcome = "unavailable"
            raise
        except OutcomeUnknown:
            outcome = "unknown"
            raise
        except asyncio.CancelledError:
            outcome = "abandoned"
            raise
        finally:
            seconds = time.perf_counter() - began
            metrics.PARTNER_CALLS.labels(merchant, verb, outcome).inc()
            metrics.PARTNER_SECONDS.labels(merchant, verb).observe(seconds)
        return answer

    return made
