"""A gateway that is a subgraph of another: entities over a whole graph, and a graph of graphs."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from gateway.federation.composition import compose
from gateway.federation.engine import Engine
from gateway.federation.machinery import Planned
from gateway.federation.requests import Request
from gateway.federation.services import Answer, SubgraphRequest
from gateway.federation.supergraph import Supergraph
from tests.federation.harness.cases import V2
from tests.federation.harness.gateway import InProcess, body
from tests.federation.harness.running import Running
from tests.federation.harness.subgraph import Log, Subgraph
from tests.federation.harness.world import World
from tests.federation.suites import simple_interface_object, simple_requires_provides

APP = (
    V2
    + """
type Query { wish: Wish wishes: [Wish!]! }
type Wish { id: ID! gift: Gift by: Member }
type Gift @key(fields: "code") {
  code: String! points: Int @external
  affordable: Boolean @requires(fields: "points")
}
type Member @key(fields: "id") { id: ID! }
"""
)


class Whole:
    """A whole gateway as a service of another."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def fetch(self, request: SubgraphRequest) -> Answer:
        """Ask it."""
        sent = orjson.loads(request.body)
        asked = Request(sent["query"], sent.get("variables") or {})
        return Answer.of(body(await self._engine.execute(asked)))


def _as_subgraph(running: Running) -> Engine:
    services = {name: InProcess(one) for name, one in running.subgraphs.items()}
    supergraph = Supergraph.parse(running.federation.supergraph)
    return Engine(Planned(supergraph, services, entities=True))


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    running = Running(simple_requires_provides.FEDERATION)
    yield running
    assert running.log.wrong == []


async def _ask(engine: Engine, query: str, **variables: Any) -> dict[str, Any]:
    return body(await engine.execute(Request(query, variables)))


ENTITIES = "query ($r: [_Any!]!) { _entities(representations: $r) { __typename ... on Gift"
GIFTS = [{"__typename": "Gift", "code": "k"}, {"__typename": "Gift", "code": "l"}]


async def test_an_entity_is_completed_by_all_subgraphs(running: Running) -> None:
    query = ENTITIES + " { name postage voices { text member { nick } } } } }"
    answer = await _ask(_as_subgraph(running), query, r=GIFTS)
    kettle = {
        "__typename": "Gift",
        "name": "Kettle",
        "postage": 20,
        "voices": [
            {"text": "Boils", "member": {"nick": "annie"}},
            {"text": "Too hot", "member": {"nick": "bo"}},
        ],
    }
    assert answer["data"]["_entities"][0] == kettle
    assert answer["data"]["_entities"][1]["name"] == "Lamp"
    assert "errors" not in answer
    assert len(running.log.requests) == 3  # gifts, voices; stock after gifts


async def test_entities_of_several_types_keep_their_places(running: Running) -> None:
    query = ENTITIES + " { name } ... on Member { nick } } }"
    given = [GIFTS[1], {"__typename": "Member", "id": "m2"}, GIFTS[0]]
    answer = await _ask(_as_subgraph(running), query, r=given)
    assert answer["data"]["_entities"] == [
        {"__typename": "Gift", "name": "Lamp"},
        {"__typename": "Member", "nick": "bo"},
        {"__typename": "Gift", "name": "Kettle"},
    ]


async def test_the_key_alone_asks_nobody(running: Running) -> None:
    answer = await _ask(_as_subgraph(running), ENTITIES + " { code } } }", r=GIFTS)
    assert [one["code"] for one in answer["data"]["_entities"]] == ["k", "l"]
    assert running.log.requests == []


async def test_an_interface_objects_fields_are_an_entitys() -> None:
    running = Running(simple_interface_object.FEDERATION)
    query = (
        "query ($r: [_Any!]!) { _entities(representations: $r)"
        " { ... on Clerk { desk points tier next } } }"
    )
    answer = await _ask(_as_subgraph(running), query, r=[{"__typename": "Clerk", "id": "c1"}])
    expected = {"desk": 3, "points": 10, "tier": None, "next": 90}
    assert answer == {"data": {"_entities": [expected]}}
    assert running.log.wrong == []


async def test_a_member_apps_supergraph_includes_the_whole_graph(running: Running) -> None:
    engine = _as_subgraph(running)
    sdl = (await _ask(engine, "{ _service { sdl } }"))["data"]["_service"]["sdl"]
    composed = compose([("coalition", "http://coalition", sdl), ("app", "http://app", APP)])
    world, log = World(), Log()
    gift = running.world.of("Gift")[0] | {"affordable": True}
    world.objects.append(gift)
    world.query["wishes"] = [
        world.add("Wish", id="w1", gift=gift, by=running.world.of("Member")[1]),
        world.add("Wish", id="w2", gift=None, by=None),
    ]
    app = Subgraph("app", APP, world, lambda name: {name}, log)
    services = {"coalition": Whole(engine), "app": InProcess(app)}
    outer = Engine(Planned(Supergraph.parse(composed.sdl), services))
    answer = await _ask(
        outer, "{ wishes { id gift { name affordable postage } by { name voices { text } } } }"
    )
    assert answer["data"]["wishes"] == [
        {
            "id": "w1",
            "gift": {"name": "Kettle", "affordable": True, "postage": 20},
            "by": {"name": "Bo", "voices": [{"text": "Too hot"}]},
        },
        {"id": "w2", "gift": None, "by": None},
    ]
    assert "errors" not in answer
    assert log.wrong == []
