"""One redemption is one trace: requests, transactions, saga steps, calls, in both processes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.measured import MeasuredDatabase, watched
from gateway.settings import Settings
from gateway.telemetry import tracing
from tests.integration.conftest import MORNING, Coalition, StillClock
from tests.support.gateway import Client, Gateway, running

REDEEM = (
    "mutation($input: RedeemOfferInput!) { redeemOffer(input: $input)"
    " { redemption { id state } errors { code } } }"
)
ASKED = {"offer": "XH-01", "legs": [{"programme": "P-LL"}], "idempotencyKey": "k1"}
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
async def coalition(seeded_url: str) -> AsyncIterator[Coalition]:
    """The coalition on a database that is measured, as in a running process."""
    database = MeasuredDatabase(seeded_url)
    settings = Settings(lease_seconds=0)
    made = Coalition(database, StillClock(MORNING), settings)
    yield made
    await database.close()


@pytest.fixture
async def gateway(coalition: Coalition, tmp_path: Path) -> AsyncIterator[Gateway]:
    partners = watched(cast("Any", coalition.partners))
    async with running(
        coalition.database, tmp_path, clock=coalition.clock, partners=partners, lease_seconds=0
    ) as made:
        yield made


def _connected(spans: tuple[ReadableSpan, ...]) -> None:
    """Every span's parent is another of them, but for one, whose parent is the caller's."""
    ids = {span.context.span_id for span in spans}
    roots = [span for span in spans if span.parent and span.parent.span_id not in ids]
    assert [f"{span.parent.span_id:016x}" for span in roots if span.parent] == [SPAN]
    assert {f"{span.context.trace_id:032x}" for span in spans} == {TRACE}


async def left_in_doubt(gateway: Gateway, member: Client) -> None:
    answer = await gateway.http.post(
        f"{gateway.base}/graphql",
        json={"query": REDEEM, "variables": {"input": ASKED}},
        headers={
            "authorization": f"Bearer {member.token}",
            "traceparent": f"00-{TRACE}-{SPAN}-01",
        },
    )
    assert answer.json()["data"]["redeemOffer"]["redemption"]["state"] == "IN_DOUBT"


async def test_a_redemption_that_the_worker_ends_is_one_trace(
    gateway: Gateway, coalition: Coalition, exported: InMemorySpanExporter
) -> None:
    coalition.partners["M05"].script["confirm"] = ["lost_before"]
    member = await gateway.member("mbr_demo_01")
    exported.clear()
    await left_in_doubt(gateway, member)
    before = len(exported.get_finished_spans())
    coalition.clock.forward(seconds=5)
    assert tracing.current() is None
    assert await gateway.runtime.redemptions.work() == 1
    spans = exported.get_finished_spans()
    _connected(tuple(span for span in spans if span.name != "transaction" or span.parent))
    names = [span.name for span in spans]
    assert {"POST /graphql", "graphql redeemOffer", "partner quote", "saga hold"} < {
        *names[:before]
    }
    assert {"saga IN_DOUBT", "partner status"} <= {*names[before:]}
    kinds = {span.name: span.kind.name for span in spans}
    assert (kinds["POST /graphql"], kinds["partner hold"]) == ("SERVER", "CLIENT")
    told = " ".join(span.to_json() for span in spans)
    assert "mbr_demo_01" not in told
    assert str(member.token) not in told


async def test_a_partner_is_told_the_trace_even_when_no_span_is_recorded(
    gateway: Gateway, coalition: Coalition
) -> None:
    told: list[str | None] = []
    partner = coalition.partners["M05"]
    hold = partner.hold

    async def seen(*given: Any, **named: Any) -> Any:
        told.append(tracing.header())
        return await hold(*given, **named)

    partner.hold = seen
    member = await gateway.member("mbr_demo_01")
    await member.did(
        "redeemOffer", "redemption { id }", offer="XH-01", legs=[{"programme": "P-LL"}]
    )
    (header,) = told
    assert tracing.read(header) is not None


async def test_what_the_worker_does_has_the_members_trace_even_when_no_span_is_recorded(
    gateway: Gateway, coalition: Coalition
) -> None:
    partner = coalition.partners["M05"]
    partner.script["confirm"] = ["lost_before"]
    await left_in_doubt(gateway, await gateway.member("mbr_demo_01"))
    told: list[str | None] = []
    status = partner.status

    async def seen(*given: Any, **named: Any) -> Any:
        told.append(tracing.header())
        return await status(*given, **named)

    partner.status = seen
    coalition.clock.forward(seconds=5)
    assert await gateway.runtime.redemptions.work() == 1
    (header,) = told
    assert header is not None
    assert header.split("-")[1] == TRACE


async def test_a_span_costs_next_to_nothing_when_there_is_none() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(100_000):
        with tracing.span("x", merchant="M05"):
            pass
    assert loop.time() - began < 2
