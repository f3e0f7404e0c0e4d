"""Generated code gives what the careful way gives, whatever subgraphs answer.

Goal: the fast path is never wrong, only absent. Method: plans over one small graph are carried out
twice over the same random answers, most of them sound and some with nulls, holes and junk.
"""

import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from graphql import get_named_type
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.federation.plan import EntityCall, Fetch, Plan, Selected, SelectedField
from gateway.federation.projection.careful import Careful
from gateway.federation.projection.generated import Generated
from gateway.federation.projection.merging import canonical
from gateway.federation.services import Answer, SubgraphRequest
from tests.support.plans import call, fetch, keyed
from tests.unit.federation.planned import PLANS, SCHEMA, Stub, carry_out, planned, read

JUNK: list[Any] = [None, 7, "junk", True, 1.5, [], {}, [None], "GREEN", "Ghost", -(2**40), [{}]]
IDS = ["1", "2", "3"]
LEAVES: dict[str, list[Any]] = {
    "ID": IDS,
    "String": ["a", "b", None],
    "Int": [1, 2, None],
    "Int!": [1, 2],
    "Float": [1.5, 2, None],
    "Boolean": [True, False, None],
    "Colour": ["RED", "BLUE", None],
    "Json": [{"a": [1]}, [1, 2], "text", None],
}


class World:
    """Random answers; the same question gets the same answer."""

    def __init__(self, seed: int, plan: Plan, noise: int) -> None:
        self.random = random.Random(seed)
        self.noise = noise
        self.fetches = {one.text: one for one in plan.fetches}
        self.known: dict[Any, Any] = {}

    def answer(self, request: SubgraphRequest) -> dict[str, Any]:
        """A response to a fetch."""
        made = self.fetches[request.text]
        return {"data": self.root(made) if made.selections else self.called(made, request)}

    def root(self, made: Fetch) -> Any:
        if made.text not in self.known:
            self.known[made.text] = self.object("Query", made.selections)
        return self.known[made.text]

    def called(self, made: Fetch, request: SubgraphRequest) -> dict[str, Any]:
        return {
            one.alias: [self.entity(made, one, each) for each in request.variables[one.variable]]
            for one in made.entities
        }

    def entity(self, made: Fetch, one: EntityCall, representation: Mapping[str, Any]) -> Any:
        """A subgraph says the same of an entity whenever it is asked."""
        known = (made.service, canonical(representation))
        if known not in self.known:
            self.known[known] = self.random.random() < 0.1
        if self.known[known]:
            return None
        answered: dict[str, Any] = {}
        for field in one.selections:
            if (known, field) not in self.known:
                said = self.object(representation["__typename"], (field,))
                self.known[known, field] = said
            answered.update(self.known[known, field])
        return answered

    def object(self, typename: str, selections: Sequence[Selected]) -> Any:
        made: dict[str, Any] = {}
        for one in selections:
            if not isinstance(one, SelectedField):
                if typename in one.types:
                    made.update(self.object(typename, one.selections))
            elif not self.odd():
                made[one.key] = self.field(typename, one)
            elif self.random.random() < 0.5:
                made[one.key] = self.random.choice(JUNK)
        return made

    def odd(self) -> bool:
        return self.noise > 0 and self.random.randint(0, self.noise) == 0

    def field(self, typename: str, one: SelectedField) -> Any:
        if one.name == "__typename":
            return typename
        kind = SCHEMA.get_field(SCHEMA.get_type(typename), one.name).type
        return self.value(str(kind), get_named_type(kind), one.selections)

    def value(self, text: str, named: Any, selections: Sequence[Selected]) -> Any:
        required = text.endswith("!")
        if text not in LEAVES:
            text = text.removesuffix("!")
        if text.startswith("["):
            size = self.random.randint(0 if required else -1, 3)
            return (
                None
                if size < 0
                else [self.value(text[1:-1], named, selections) for _ in range(size)]
            )
        if text in LEAVES:
            return self.random.choice(LEAVES[text])
        if not required and self.random.random() < 0.15:
            return None
        return self.object(self.random.choice(possible(named)), selections)


def possible(named: Any) -> list[str]:
    """Names of the object types of a type."""
    if named.name in ("Thing", "Named"):
        return ["Shop", "Person"]
    return [named.name]


@pytest.mark.parametrize("name", PLANS)
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), noise=st.sampled_from([0, 0, 4, 20, 60]))
async def test_generated_code_and_the_careful_way_agree(name: str, seed: int, noise: int) -> None:
    plan = PLANS[name]
    world = World(seed, plan, noise)
    services = {one.service: Stub(world.answer) for one in plan.fetches}
    quick = await carry_out(plan, services)
    slow = await carry_out(plan, services, careful=True)
    assert read(quick) == read(slow)
    assert list(quick.errors) == list(slow.errors)
    assert quick.data == slow.data  # In the same order, too.


@pytest.mark.parametrize("name", PLANS)
def test_code_is_generated_for_every_plan_here(name: str) -> None:
    assert Generated(PLANS[name], SCHEMA).whole().startswith("def ")


async def test_sound_answers_never_take_the_careful_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Careful, "finish", None)
    monkeypatch.setattr(Careful, "collect", None)
    plan = PLANS["entities of entities, joined twice"]
    people = [{"name": "Jin", "age": 30, "friend": {"id": "p2"}}]

    def answer(request: SubgraphRequest) -> dict[str, Any]:
        if not request.variables:
            mine = {"me": {"id": "p1", "name": "Ann"}}
            return {"data": mine if request.service == "people" else {"shops": [{"boss": None}]}}
        if request.service == "shops":
            return {"data": {"_entities": [{"shops": [{"name": "S", "staff": [{"id": "p3"}]}]}]}}
        return {"data": {"_entities": people}}

    services = {name: Stub(answer) for name in ("people", "shops")}
    assert read(await carry_out(plan, services)) == {
        "me": {
            "name": "Ann",
            "shops": [
                {"name": "S", "staff": [{"name": "Jin", "friend": {"name": "Jin", "age": 30}}]}
            ],
        },
        "shops": [{"boss": None}],
    }


def test_names_reach_the_code_as_literals_only() -> None:
    """An alias, a key or a type name can be anything a hostile peer could get past a parser."""
    hostile = "x'] = __import__('os') #\n"
    plan = planned(
        "{me{id friend{age}}}",
        fetch(0, "a", "{me{id friend{k}}}", into={"id": hostile, "k": hostile}),
        fetch(1, "b", call("me.friend", keyed(hostile, hostile), "{age}"), after=[0]),
    )
    code = Generated(plan, SCHEMA).whole()
    assert repr(hostile) in code
    assert "__import__" not in code.replace(repr(hostile), "")


def test_a_deep_operation_is_cut_into_functions() -> None:
    text = "{shops{" + "staff{shops{" * 40 + "id" + "}}" * 40 + "}}"
    plan = planned(text, fetch(0, "shops", text))
    answer: Any = {"id": "s"}
    for _ in range(40):
        answer = {"staff": [{"shops": [answer]}]}
    generated = Generated(plan, SCHEMA)
    assert generated.root_holds(0, {"shops": [answer]})
    data, items = generated.join([{"shops": [answer]}], [], {})
    assert data == {"shops": [answer]}
    assert items == 81


LEVELS = 6
CYCLE = planned(
    "{me{" + "shops{staff{" * LEVELS + "name" + "}}" * LEVELS + "}}",
    fetch(0, "people", "{me{id}}"),
    *(
        fetch(
            number + 1,
            "shops",
            call("me" + ".shops@.staff@" * number, keyed("Person", "id"), "{shops{staff{id}}}"),
            after=[number],
        )
        for number in range(LEVELS)
    ),
    fetch(
        LEVELS + 1,
        "people",
        call("me" + ".shops@.staff@" * LEVELS, keyed("Person", "id"), "{name}"),
        after=[LEVELS],
    ),
)


@pytest.mark.parametrize("careful", [False, True], ids=["generated", "careful"])
@pytest.mark.parametrize(("count", "letters"), [(100, 1), (4, 100_000)], ids=["items", "text"])
async def test_an_entity_in_too_many_places_is_refused_at_once(
    careful: bool, count: int, letters: int
) -> None:
    """A few kilobytes that refer to one another would be terabytes."""

    def answer(request: SubgraphRequest) -> dict[str, Any]:
        if not request.variables:
            return {"data": {"me": {"id": "1"}}}
        if request.service == "people":
            return {"data": {"_entities": [{"name": "x" * letters}]}}
        shops = [{"staff": [{"id": "1"}] * count}]
        return {"data": {"_entities": [{"shops": shops}]}}

    def sized(request: SubgraphRequest) -> Answer:
        made = answer(request)
        return Answer.of(made, len(canonical(made)))

    began = time.process_time()
    outcome = await carry_out(
        CYCLE, {name: Stub(sized) for name in ("people", "shops")}, careful=careful
    )
    assert time.process_time() - began < 5
    assert outcome.data == b"null"
    assert [one["extensions"]["code"] for one in outcome.errors] == ["RESPONSE_TOO_LARGE"]


def lines_for(aliases: int) -> int:
    """Lines of code for so many aliases of a field with entities below entities."""
    names = [f"a{number}" for number in range(aliases)]
    owners, friends = ([f"{name}@.owner{more}" for name in names] for more in ("", ".friend"))
    plan = planned(
        "{" + " ".join(f"{name}:shops{{owner{{friend{{age}}}}}}" for name in names) + "}",
        fetch(0, "shops", "{" + " ".join(f"{name}:shops{{owner{{id}}}}" for name in names) + "}"),
        fetch(1, "people", call(owners, keyed("Person", "id"), "{friend{id}}"), after=[0]),
        fetch(2, "ages", call(friends, keyed("Person", "id"), "{age}"), after=[1]),
    )
    return len(Generated(plan, SCHEMA).whole().splitlines())


def test_code_grows_no_faster_than_the_plan() -> None:
    began = time.process_time()
    few = lines_for(10)
    middle = time.process_time()
    many = lines_for(100)
    assert many < 11 * few
    assert time.process_time() - middle < 40 * (middle - began)  # Nothing squared or worse.


def test_code_is_written_when_it_is_called() -> None:
    """What the answers of a request do not need costs it nothing."""
    plan = planned(
        "{me{id friend{age}}}",
        fetch(0, "a", "{me{id friend{id}}}"),
        fetch(1, "b", call("me.friend", keyed("Person", "id"), "{age}"), after=[0]),
    )
    generated = Generated(plan, SCHEMA)
    assert generated.text() == ""
    assert generated.root_holds(0, {"me": {"id": "1", "friend": None}})
    assert generated.collect(0, [{"me": {"id": "1", "friend": None}}], [{}], [()]) == {}
    before = len(generated.text())
    assert 0 < before < len(generated.whole())
