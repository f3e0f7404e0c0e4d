"""Identical reads under way are one; nothing else is."""

import asyncio
from typing import Any

import pytest

from gateway.federation.executor import Caller
from gateway.federation.services import ServiceFailure
from gateway.federation.sharing import Flights
from tests.support.plans import fetch
from tests.unit.federation.planned import Stub, carry_out, gives, planned, read

SHOPS = planned("{shops{id}}", fetch(0, "shops", "{shops{id}}"))
NAMES = planned("{shops{name}}", fetch(0, "shops", "{shops{name}}"))
ANSWER: dict[str, Any] = {"data": {"shops": [{"id": "1", "name": "x"}]}}


def header(value: str) -> Caller:
    return Caller(headers=lambda service: (("authorization", value),))


async def asked(*callers: Caller, share: bool = True) -> int:
    """How many requests callers of one operation make together."""
    shops, flights = Stub(gives(ANSWER), seconds=0.02), Flights(share=share)
    await asyncio.gather(
        *(carry_out(SHOPS, {"shops": shops}, caller=one, flights=flights) for one in callers)
    )
    return len(shops.asked)


async def test_the_same_read_is_one_request() -> None:
    assert await asked(Caller(), Caller(), Caller()) == 1


async def test_sharing_can_be_switched_off() -> None:
    assert await asked(Caller(), Caller(), share=False) == 2


@pytest.mark.parametrize(
    "other", [header("b"), Caller(identity="somebody"), Caller(identity=("a", 1))]
)
async def test_another_identity_or_header_is_another_request(other: Caller) -> None:
    assert await asked(header("a"), other) == 2


async def test_another_operation_is_another_request() -> None:
    shops, flights = Stub(gives(ANSWER), seconds=0.02), Flights()
    await asyncio.gather(
        *(carry_out(plan, {"shops": shops}, flights=flights) for plan in (SHOPS, NAMES))
    )
    assert len(shops.asked) == 2


async def test_nothing_is_kept_once_answered() -> None:
    shops, flights = Stub(gives(ANSWER)), Flights()
    for _ in range(2):
        await carry_out(SHOPS, {"shops": shops}, flights=flights)
    assert len(shops.asked) == 2


async def test_a_failure_is_shared_and_not_kept() -> None:
    failure = ServiceFailure("SUBGRAPH_UNREACHABLE", "no connection")
    shops, flights = Stub(gives(failure, ANSWER), seconds=0.01), Flights()
    outcomes = await asyncio.gather(
        *(carry_out(SHOPS, {"shops": shops}, flights=flights) for _ in range(3))
    )
    assert [len(one.errors) for one in outcomes] == [1, 1, 1]
    assert read(await carry_out(SHOPS, {"shops": shops}, flights=flights)) == {
        "shops": [{"id": "1"}]
    }


async def test_one_who_leaves_does_not_take_the_request_along() -> None:
    shops, flights = Stub(gives(ANSWER), seconds=0.05), Flights()
    tasks = [
        asyncio.create_task(carry_out(SHOPS, {"shops": shops}, flights=flights)) for _ in range(2)
    ]
    await asyncio.sleep(0)
    tasks[0].cancel()
    assert read(await tasks[1]) == {"shops": [{"id": "1"}]}
    assert len(shops.asked) == 1
    assert shops.cancelled == 0


async def test_the_last_one_to_leave_cancels_the_request() -> None:
    shops, flights = Stub(gives(ANSWER), seconds=60), Flights()
    tasks = [
        asyncio.create_task(carry_out(SHOPS, {"shops": shops}, flights=flights)) for _ in range(2)
    ]
    await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)
    assert shops.cancelled == 1
    late = await carry_out(SHOPS, {"shops": Stub(gives(ANSWER))}, flights=flights)
    assert read(late) == {"shops": [{"id": "1"}]}
