"""Each event of a subgraph is completed by the others, as a query's answer would be."""

from collections.abc import Mapping
from typing import Any

import pytest

from gateway.federation.requests import Request
from tests.federation.harness.gateway import Gateway, body
from tests.federation.harness.running import Running
from tests.federation.suites.subscriptions import FEDERATION


@pytest.fixture
def running() -> Running:
    return Running(FEDERATION)


async def _events(
    running: Running, query: str, variables: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    engine = Gateway(running).engine
    return [body(result) async for result in engine.subscribe(Request(query, variables or {}))]


async def test_entities_are_fetched_for_each_event(running: Running) -> None:
    events = await _events(running, "subscription { booked { id hotel { name } } }")
    assert [event["data"]["booked"] for event in events] == [
        {"id": "b1", "hotel": {"name": "Lakeside"}},
        {"id": "b2", "hotel": None},
        {"id": "b3", "hotel": {"name": "Hill"}},
    ]
    assert [request.graph for request in running.log.requests] == ["bookings", "hotels", "hotels"]
    assert running.log.wrong == []


async def test_what_is_required_comes_with_the_event(running: Running) -> None:
    events = await _events(running, "subscription { booked { points } }")
    assert [event["data"]["booked"]["points"] for event in events] == [20, 10, 50]
    assert running.log.wrong == []


async def test_events_without_entities_ask_nobody_else(running: Running) -> None:
    events = await _events(running, "subscription { n: counted }")
    assert [event["data"] for event in events] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert len(running.log.requests) == 1


async def test_variables_reach_the_subgraph(running: Running) -> None:
    query = "subscription ($city: String!) { booked(city: $city) { id } }"
    events = await _events(running, query, {"city": "Xian"})
    assert [event["data"]["booked"]["id"] for event in events] == ["b3"]


async def test_an_error_belongs_to_its_event(running: Running) -> None:
    events = await _events(running, "subscription { booked { hotel { stars } } }")
    assert ["errors" in event for event in events] == [False, False, True]
    assert events[2]["data"] == {"booked": {"hotel": {"stars": None}}}
    assert events[2]["errors"][0]["path"] == ["booked", "hotel", "stars"]


async def test_two_roots_are_refused(running: Running) -> None:
    (event,) = await _events(running, "subscription { counted booked { id } }")
    assert event["errors"]
    assert "data" not in event
    assert running.log.requests == []


async def test_a_query_is_one_event(running: Running) -> None:
    (event,) = await _events(running, "{ last { points } }")
    assert event == {"data": {"last": {"points": 50}}}
