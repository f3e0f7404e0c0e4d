"""Plans written by hand over one small graph, and subgraphs that answer whatever a test wants."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from graphql import build_schema, parse, validate

from gateway.federation.executor import Caller, Executable, Outcome, run
from gateway.federation.normalise import normalise
from gateway.federation.plan import Fetch, Plan
from gateway.federation.services import Answer, SubgraphRequest
from gateway.federation.sharing import Flights
from tests.support.plans import HIDDEN, call, fetch, keyed

SCHEMA = build_schema(
    """
    scalar Json
    enum Colour { RED BLUE }
    interface Named { id: ID! name: String }
    type Shop implements Named {
      id: ID! name: String owner: Person! items: [[Item!]] colour: Colour size: Size
      rating: Float open: Boolean staff: [Person!]! extra: Json boss: Person best: Item
    }
    type Person implements Named { id: ID! name: String age: Int shops: [Shop!]! friend: Person }
    type Item { sku: ID! price: Int! label: String shop: Shop }
    type Size { w: Int h: Int! }
    union Thing = Shop | Person
    type Query {
      shops: [Shop!] me: Person! thing: Thing things: [Thing] named: Named
      one(id: ID!, n: Int = 3): Shop
    }
    type Mutation { first: Shop second: Shop }
    """
)

Ask = Callable[[SubgraphRequest], Any]


class Stub:
    """A service that answers with what a function returns or raises; it keeps what it was sent."""

    def __init__(self, answer: Ask, *, seconds: float = 0) -> None:
        self._answer = answer
        self._seconds = seconds
        self.asked: list[SubgraphRequest] = []
        self.cancelled = 0

    async def fetch(self, request: SubgraphRequest) -> Answer:
        """Answer."""
        self.asked.append(request)
        try:
            await asyncio.sleep(self._seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        given = self._answer(request)
        if isinstance(given, Exception):
            raise given
        return given if isinstance(given, Answer) else Answer.of(given)


def gives(*answers: Any) -> Ask:
    """Answers one after another; the last one for ever."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def planned(query: str, *fetches: Fetch, **variables: Any) -> Plan:
    """A plan for a query over the small graph."""
    document = parse(query)
    assert validate(SCHEMA, document) == []
    return Plan(normalise(SCHEMA, document, None, variables), fetches)


async def carry_out(
    plan: Plan,
    services: Mapping[str, Stub],
    *,
    careful: bool = False,
    caller: Caller | None = None,
    flights: Flights | None = None,
    first: Answer | None = None,
) -> Outcome:
    """Carry a plan out, by generated code or by the careful way."""
    executable = Executable(plan, SCHEMA)
    if careful:
        executable.generated = None
    return await run(executable, services, caller or Caller(), flights or Flights(), first)


def read(outcome: Outcome) -> Any:
    """An outcome's data."""
    return orjson.loads(outcome.data)


PLANS = {
    "an entity in a list": planned(
        "{shops{id name owner{id name age}}}",
        fetch(0, "shops", "{shops{id name owner{id}}}"),
        fetch(1, "people", call("shops@.owner", keyed("Person", "id"), "{name age}"), after=[0]),
    ),
    "aliases, lists of lists, odd leaves": planned(
        "{all:shops{__typename key:id items{sku price cost:price} colour rating open extra}}",
        fetch(
            0, "shops", "{all:shops{key:id items{sku price cost:price} colour rating open extra}}"
        ),
    ),
    "entities of entities, joined twice": planned(
        "{me{name shops{name staff{name friend{name age}}}} shops{boss{age name}}}",
        fetch(0, "people", "{me{id name}}"),
        fetch(1, "shops", "{shops{boss{id}}}"),
        fetch(
            2,
            "shops",
            call("me", keyed("Person", "id"), "{shops{name staff{id}}}"),
            after=[0],
        ),
        fetch(
            3,
            "people",
            call(
                ["me.shops@.staff@", "shops@.boss"],
                keyed("Person", "id"),
                "{name age friend{id}}",
            ),
            after=[1, 2],
        ),
        fetch(
            4,
            "people",
            call("me.shops@.staff@.friend", keyed("Person", "id"), "{name age}"),
            after=[3],
        ),
    ),
    "required fields": planned(
        "{shops{id best{price label}}}",
        fetch(0, "shops", "{shops{id best{sku}}}"),
        fetch(1, "prices", call("shops@.best", keyed("Item", "sku"), "{price}"), after=[0]),
        fetch(
            2,
            "labels",
            call("shops@.best", keyed("Item", "sku", "price", needed=["sku"]), "{label}"),
            after=[1],
        ),
    ),
    "a value in two answers": planned(
        "{shops{id size{w h}}}",
        fetch(0, "shops", "{shops{id size{w}}}"),
        fetch(1, "sizes", call("shops@", keyed("Shop", "id"), "{size{h}}"), after=[0]),
    ),
    "a root in two answers": planned(
        "{shops{id name rating}}",
        fetch(0, "shops", "{shops{id name}}"),
        fetch(1, "ratings", "{shops{rating}}"),
    ),
    "a union": planned(
        "{things{__typename ...on Shop{id best{price}}...on Person{name ...on Named{id}}}}",
        fetch(0, "shops", "{things{__typename ...on Shop{id best{sku}}...on Person{id}}}"),
        fetch(1, "people", call("things@|Person", keyed("Person", "id"), "{name}"), after=[0]),
        fetch(2, "prices", call("things@|Shop.best", keyed("Item", "sku"), "{price}"), after=[0]),
    ),
    "an interface": planned(
        "{named{id name ...on Shop{owner{age} colour}}}",
        fetch(0, "shops", "{named{__typename id name ...on Shop{owner{id} colour}}}"),
        fetch(1, "people", call("named|Shop.owner", keyed("Person", "id"), "{age}"), after=[0]),
    ),
    "another alias inside": planned(
        "{thing{...on Shop{label:name} ...on Person{label:name}}}",
        fetch(
            0,
            "shops",
            "{thing{__typename ...on Shop{label:name} ...on Person{label_1:name}}}",
            into={"label_1": "label"},
        ),
    ),
    "keys nobody shows": planned(
        "{me{friend{age}}}",
        fetch(0, "shops", f"{{me{{friend{{k:id {HIDDEN}x:name}}}}}}", into={"k": "$id"}),
        fetch(
            1,
            "people",
            call("me.friend", keyed("Person", "$id"), "{age}"),
            after=[0],
        ),
    ),
}
