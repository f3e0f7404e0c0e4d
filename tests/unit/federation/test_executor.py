"""How plans are carried out: who waits for whom, what is sent, whose errors go where."""

import asyncio
from typing import Any

import orjson
import pytest
from graphql import build_schema, parse

from gateway.federation.executor import Caller, Executable, run
from gateway.federation.normalise import normalise
from gateway.federation.plan import Plan
from gateway.federation.requests import Result
from gateway.federation.services import Answer, ServiceFailure, SubgraphRequest
from gateway.federation.sharing import Flights
from tests.support.plans import call, fetch, keyed
from tests.unit.federation.planned import SCHEMA, Stub, carry_out, gives, planned, read

OWNERS = planned(
    "{shops{id owner{id name age}}}",
    fetch(0, "shops", "{shops{id owner{id}}}"),
    fetch(1, "people", call("shops@.owner", keyed("Person", "id"), "{name age}"), after=[0]),
)
BOSSES = planned(
    "{shops{id boss{name}}}",
    fetch(0, "shops", "{shops{id boss{id}}}"),
    fetch(1, "people", call("shops@.boss", keyed("Person", "id"), "{name}"), after=[0]),
)


def bosses(*ids: str | None) -> dict[str, Any]:
    shops = [
        {"id": f"s{number}", "boss": None if one is None else {"id": one}}
        for number, one in enumerate(ids)
    ]
    return {"data": {"shops": shops}}


def entities(*made: Any, **more: Any) -> dict[str, Any]:
    return {"data": {"_entities": list(made)}, **more}


def sent(service: Stub, number: int = 0) -> Any:
    """The variables of a request."""
    return orjson.loads(service.asked[number].body)["variables"]


both_ways = pytest.mark.parametrize("careful", [False, True], ids=["generated", "careful"])


@both_ways
async def test_representations_are_sent_once_each_and_null_keys_never(careful: bool) -> None:
    people = Stub(gives(entities({"name": "Ann"}, {"name": "Jin"})))
    services = {"shops": Stub(gives(bosses("2", None, "1", "2"))), "people": people}
    outcome = await carry_out(BOSSES, services, careful=careful)
    assert sent(people)["r_entities"] == [
        {"__typename": "Person", "id": "2"},
        {"__typename": "Person", "id": "1"},
    ]
    assert [shop["boss"] for shop in read(outcome)["shops"]] == [
        {"name": "Ann"}, None, {"name": "Jin"}, {"name": "Ann"},
    ]  # fmt: skip
    assert outcome.errors == []


@both_ways
async def test_a_null_key_leaves_fields_null_and_asks_nobody(careful: bool) -> None:
    people = Stub(gives(entities()))
    shops = Stub(gives({"data": {"shops": [{"id": "s", "boss": {"id": None}}]}}))
    outcome = await carry_out(BOSSES, {"shops": shops, "people": people}, careful=careful)
    assert read(outcome) == {"shops": [{"id": "s", "boss": {"name": None}}]}
    assert people.asked == []
    assert outcome.errors == []


@both_ways
async def test_an_entitys_error_is_told_at_every_place_it_stands(careful: bool) -> None:
    error = {
        "message": "no name",
        "path": ["_entities", 0, "name"],
        "extensions": {"code": "ODD"},
        "locations": [{"line": 1, "column": 1}],
    }
    people = Stub(gives(entities({"name": None}, {"name": "Jin"}, errors=[error])))
    services = {"shops": Stub(gives(bosses("1", "2", "1"))), "people": people}
    outcome = await carry_out(BOSSES, services, careful=careful)
    assert outcome.errors == [
        {
            "message": "no name",
            "path": ["shops", place, "boss", "name"],
            "extensions": {"code": "ODD", "service": "people"},
        }
        for place in (0, 2)
    ]
    assert read(outcome)["shops"][1] == {"id": "s1", "boss": {"name": "Jin"}}


@both_ways
async def test_a_service_that_fails_costs_its_own_fields_and_tells_once(careful: bool) -> None:
    people = Stub(gives(ServiceFailure("SUBGRAPH_UNREACHABLE", "no connection")))
    services = {"shops": Stub(gives(bosses("1", "2"))), "people": people}
    outcome = await carry_out(BOSSES, services, careful=careful)
    assert read(outcome)["shops"] == [
        {"id": "s0", "boss": {"name": None}},
        {"id": "s1", "boss": {"name": None}},
    ]
    assert outcome.errors == [
        {
            "message": "people: no connection",
            "path": ["shops", place, "boss", "name"],
            "extensions": {"code": "SUBGRAPH_UNREACHABLE", "service": "people"},
        }
        for place in (0, 1)
    ]


SEVERAL = planned(
    "{shops{boss{name}} me{id friend{name} shops{best{label}}}}",
    fetch(0, "shops", "{shops{boss{id}}}"),
    fetch(1, "mine", "{me{id friend{id} shops{best{sku}}}}"),
    fetch(
        2,
        "people",
        [
            call(["shops@.boss", "me.friend"], keyed("Person", "id"), "{name}", alias="a"),
            call("me.shops@.best", keyed("Item", "sku"), "{label}", alias="b"),
        ],
        after=[0, 1],
    ),
)


@both_ways
@pytest.mark.parametrize("said", [False, True], ids=["unreachable", "no path"])
async def test_a_failed_fetch_is_told_wherever_it_is_missing(careful: bool, said: bool) -> None:
    mine = {"me": {"id": "p", "friend": {"id": "2"}, "shops": [{"best": {"sku": "i"}}]}}
    error = {"message": "broken", "extensions": {"code": "SUBGRAPH_UNREACHABLE"}}
    failing = {"data": None, "errors": [error]}
    services = {
        "shops": Stub(gives(bosses("1", "2"))),
        "mine": Stub(gives({"data": mine})),
        "people": Stub(
            gives(failing if said else ServiceFailure("SUBGRAPH_UNREACHABLE", "broken"))
        ),
    }
    outcome = await carry_out(SEVERAL, services, careful=careful)
    assert outcome.errors == [
        {
            "message": "broken" if said else "people: broken",
            "path": path,
            "extensions": {"code": "SUBGRAPH_UNREACHABLE", "service": "people"},
        }
        for path in (
            ["shops", 0, "boss", "name"],
            ["shops", 1, "boss", "name"],
            ["me", "friend", "name"],
            ["me", "shops", 0, "best", "label"],
        )
    ]
    assert read(outcome)["me"]["friend"] == {"name": None}


@both_ways
async def test_what_was_not_asked_for_has_not_failed(careful: bool) -> None:
    mine = {"me": {"id": "p", "friend": None, "shops": []}}
    services = {
        "shops": Stub(gives(bosses("1"))),
        "mine": Stub(gives({"data": mine})),
        "people": Stub(gives(ServiceFailure("SUBGRAPH_UNREACHABLE", "broken"))),
    }
    outcome = await carry_out(SEVERAL, services, careful=careful)
    assert [error["path"] for error in outcome.errors] == [["shops", 0, "boss", "name"]]


@both_ways
async def test_many_missing_fields_are_told_at_their_lists(careful: bool) -> None:
    people = Stub(gives(ServiceFailure("SUBGRAPH_UNREACHABLE", "broken")))
    for shops, told in ((250, 250), (251, 1)):
        services = {"shops": Stub(gives(bosses(*map(str, range(shops))))), "people": people}
        outcome = await carry_out(BOSSES, services, careful=careful)
        assert len(outcome.errors) == told
    assert outcome.errors[0]["path"] == ["shops"]


PARTLY = planned(
    "{me{id friend{id name friend{id age}}}}",
    fetch(0, "mine", "{me{id friend{__typename id friend{id}}}}"),
    fetch(
        1,
        "people",
        call("me.friend", keyed("Person", "id"), "{name ...on Person{friend{age}} ...on Shop{id}}"),
        after=[0],
    ),
)


@both_ways
async def test_what_another_service_has_given_is_not_missing(careful: bool) -> None:
    mine = {"me": {"id": "p", "friend": {"__typename": "Person", "id": "2", "friend": {"id": "3"}}}}
    people = Stub(gives(ServiceFailure("SUBGRAPH_TIMEOUT", "late")))
    services = {"mine": Stub(gives({"data": mine})), "people": people}
    outcome = await carry_out(PARTLY, services, careful=careful)
    assert [error["path"] for error in outcome.errors] == [
        ["me", "friend", "name"],
        ["me", "friend", "friend", "age"],
    ]


@both_ways
async def test_an_entity_that_is_no_object_is_told_with_its_service(careful: bool) -> None:
    people = Stub(gives(entities(1, "x", [], {"name": "Ann"}, None)))
    services = {"shops": Stub(gives(bosses("1", "2", "3", "4", "5"))), "people": people}
    outcome = await carry_out(BOSSES, services, careful=careful)
    names = [shop["boss"]["name"] for shop in read(outcome)["shops"]]
    assert names == [None, None, None, "Ann", None]
    assert [error["path"] for error in outcome.errors] == [
        ["shops", place, "boss", "name"] for place in (0, 1, 2)
    ]
    told = {"code": "SUBGRAPH_MALFORMED", "service": "people"}
    assert all(error["extensions"] == told for error in outcome.errors)


@both_ways
@pytest.mark.parametrize("said", [False, True], ids=["unreachable", "no path"])
async def test_a_failed_root_fetch_is_told_at_each_of_its_fields(careful: bool, said: bool) -> None:
    both = planned(
        "{shops{id} all:shops{id} me{id}}",
        fetch(0, "shops", "{shops{id} all:shops{id}}"),
        fetch(1, "mine", "{me{id}}"),
    )
    services = {
        "shops": Stub(
            gives(
                {"data": None, "errors": [{"message": "broken"}]}
                if said
                else ServiceFailure("SUBGRAPH_UNREACHABLE", "broken")
            )
        ),
        "mine": Stub(gives({"data": {"me": {"id": "p"}}})),
    }
    outcome = await carry_out(both, services, careful=careful)
    assert [error["path"] for error in outcome.errors] == [["shops"], ["all"]]
    assert read(outcome) == {"shops": None, "all": None, "me": {"id": "p"}}


@both_ways
async def test_nulls_rise_to_the_nearest_nullable_parent(careful: bool) -> None:
    """`owner` must not be null, nor a shop in the list: the list is null."""
    shops = {"data": {"shops": [{"id": "1", "owner": {"id": "p"}}, {"id": "2", "owner": None}]}}
    services = {
        "shops": Stub(gives(shops)),
        "people": Stub(gives(entities({"name": "Ann", "age": 3}))),
    }
    outcome = await carry_out(OWNERS, services, careful=careful)
    assert read(outcome) == {"shops": None}
    assert outcome.errors == [
        {
            "message": "Cannot return null for non-nullable field Shop.owner.",
            "path": ["shops", 1, "owner"],
            "extensions": {"code": "NON_NULLABLE_FIELD"},
        }
    ]


async def test_a_null_that_an_error_explains_is_told_once() -> None:
    shops = {
        "data": {"shops": [{"id": "1", "owner": None}]},
        "errors": [{"message": "lost", "path": ["shops", 0, "owner"]}],
    }
    outcome = await carry_out(OWNERS, {"shops": Stub(gives(shops)), "people": Stub(gives({}))})
    assert read(outcome) == {"shops": None}
    assert [(one["message"], one["path"]) for one in outcome.errors] == [
        ("lost", ["shops", 0, "owner"])
    ]


LEAVES = planned("{shops{colour rating open}}", fetch(0, "shops", "{shops{colour rating open}}"))


@pytest.mark.parametrize(
    ("given", "shown", "wrong"),
    [
        ({"colour": "GREEN", "rating": 1, "open": True}, {"colour": None}, ["colour"]),
        ({"colour": "RED", "rating": "x", "open": None}, {"rating": None}, ["rating"]),
        ({"colour": "RED", "rating": {}, "open": []}, {"rating": None}, ["rating", "open"]),
        ({"colour": None, "rating": "1.5", "open": 1}, {"rating": 1.5, "open": True}, []),
    ],
)
async def test_leaves_are_what_the_schema_says(
    given: dict[str, Any], shown: dict[str, Any], wrong: list[str]
) -> None:
    services = {"shops": Stub(gives({"data": {"shops": [given]}}))}
    outcome = await carry_out(LEAVES, services)
    assert read(outcome)["shops"][0].items() >= shown.items()
    assert [one["path"][-1] for one in outcome.errors] == wrong
    assert "GREEN" not in str(outcome.errors)  # A hidden value stays hidden.


async def test_only_used_variables_are_forwarded_with_defaults_applied() -> None:
    declared = "$id:ID!,$n:Int=7,$skip:Boolean=false"
    text = f"query({declared}){{one(id:$id,n:$n){{id @skip(if:$skip)}}}}"
    plan = planned(text, fetch(0, "shops", "{one{id}}", variables=["id", "n", "none"]))
    shops = Stub(gives({"data": {"one": {"id": "1"}}}))
    await carry_out(plan, {"shops": shops}, caller=Caller({"id": "x", "skip": False}))
    await carry_out(plan, {"shops": shops}, caller=Caller({"id": "x", "n": None}))
    assert sent(shops, 0) == {"id": "x", "n": 7}
    assert sent(shops, 1) == {"id": "x", "n": None}


async def test_a_fetch_starts_when_its_own_inputs_are_there() -> None:
    """The slow fetch 0 keeps nobody waiting but who needs it."""
    order: list[str] = []

    def told(name: str, answer: Any) -> Any:
        def ask(_: SubgraphRequest) -> Any:
            order.append(name)
            return answer

        return ask

    plan = planned(
        "{shops{id} me{id friend{age}}}",
        fetch(0, "slow", "{shops{id}}"),
        fetch(1, "quick", "{me{id friend{id}}}"),
        fetch(2, "people", call("me.friend", keyed("Person", "id"), "{age}"), after=[1]),
    )
    services = {
        "slow": Stub(told("slow", {"data": {"shops": []}}), seconds=0.2),
        "quick": Stub(told("quick", {"data": {"me": {"id": "1", "friend": {"id": "2"}}}})),
        "people": Stub(told("people", entities({"age": 3}))),
    }
    outcome = await carry_out(plan, services)
    assert order == ["quick", "people", "slow"]
    assert read(outcome) == {"shops": [], "me": {"id": "1", "friend": {"age": 3}}}


async def test_mutations_wait_for_one_another_and_are_never_shared() -> None:
    document = parse("mutation{first{id} second{id}}")
    plan = Plan(
        normalise(SCHEMA, document, None, {}),
        (
            fetch(0, "shops", "{first{id}}", kind="mutation"),
            fetch(1, "shops", "{second{id}}", kind="mutation", after=[0]),
        ),
    )
    shops = Stub(
        lambda request: {"data": {request.text[9:].partition("{")[0]: {"id": request.text}}},
        seconds=0.01,
    )
    flights = Flights()
    await asyncio.gather(*(carry_out(plan, {"shops": shops}, flights=flights) for _ in range(2)))
    assert [one.text for one in shops.asked] == ["mutation{first{id}}"] * 2 + [
        "mutation{second{id}}"
    ] * 2


async def test_what_was_given_is_not_asked_for_again() -> None:
    plan = planned(
        "{me{id name friend{id name}} shops{boss{name}}}",
        fetch(0, "people", "{me{id name friend{id}}}"),
        fetch(1, "shops", "{shops{boss{id}}}"),
        fetch(
            2,
            "people",
            call(["me.friend", "shops@.boss"], keyed("Person", "id"), "{name}"),
            after=[0, 1],
        ),
    )
    people = Stub(
        gives(
            {"data": {"me": {"id": "1", "name": "Ann", "friend": {"id": "1"}}}},
            entities({"name": "Jin"}),
        )
    )
    shops = {"data": {"shops": [{"boss": {"id": "1"}}, {"boss": {"id": "2"}}]}}
    outcome = await carry_out(plan, {"people": people, "shops": Stub(gives(shops))})
    assert sent(people, 1)["r_entities"] == [{"__typename": "Person", "id": "2"}]
    assert read(outcome) == {
        "me": {"id": "1", "name": "Ann", "friend": {"id": "1", "name": "Ann"}},
        "shops": [{"boss": {"name": "Ann"}}, {"boss": {"name": "Jin"}}],
    }


FRIEND = planned(
    "{me{id name friend{name}}}",
    fetch(0, "people", "{me{id name friend{id}}}"),
    fetch(1, "people", call("me.friend", keyed("Person", "id"), "{name}"), after=[0]),
)
MYSELF = {"data": {"me": {"id": "1", "name": "Ann", "friend": {"id": "1"}}}}


async def test_a_fetch_of_what_is_all_known_is_not_sent() -> None:
    people = Stub(gives(MYSELF))
    outcome = await carry_out(FRIEND, {"people": people})
    assert len(people.asked) == 1
    assert read(outcome)["me"]["friend"] == {"name": "Ann"}


async def test_everything_is_asked_for_where_nothing_is_reused() -> None:
    people = Stub(gives(MYSELF, entities({"name": "Jin"})))
    executable = Executable(FRIEND, SCHEMA, reuse=False)
    outcome = await run(executable, {"people": people}, Caller(), Flights())
    assert len(people.asked) == 2
    assert read(outcome)["me"] == {"id": "1", "name": "Ann", "friend": {"name": "Jin"}}


async def test_the_first_answer_of_an_event_is_given() -> None:
    people = Stub(gives(entities({"name": "Ann"})))
    shops = Stub(gives({}))
    event = Answer.of(bosses("1"))
    outcome = await carry_out(BOSSES, {"shops": shops, "people": people}, first=event)
    assert read(outcome) == {"shops": [{"id": "s0", "boss": {"name": "Ann"}}]}
    assert shops.asked == []


async def test_introspection_is_answered_here_and_kept() -> None:
    text = "query($t:String!){__typename s:__schema{queryType{name}} __type(name:$t){name}}"
    executable = Executable(planned(text), SCHEMA)
    for name in ("Shop", "Person", "Shop"):
        outcome = await run(executable, {}, Caller({"t": name}), Flights())
        assert read(outcome) == {
            "__typename": "Query",
            "s": {"queryType": {"name": "Query"}},
            "__type": {"name": name},
        }


@pytest.mark.parametrize(
    "answer",
    [
        {"data": {"_entities": [None]}},
        {"data": {"_entities": "x"}},
        {"data": {}},
        {"data": None},
        [],
        {"data": []},
        {"errors": "x"},
    ],
)
async def test_an_answer_that_is_none_is_a_failure(answer: Any) -> None:
    services = {"shops": Stub(gives(bosses("1", "2"))), "people": Stub(lambda _: answer)}
    outcome = await carry_out(BOSSES, services)
    assert read(outcome)["shops"][0] == {"id": "s0", "boss": {"name": None}}
    told = {"code": "SUBGRAPH_MALFORMED", "service": "people"}
    assert [(error["path"][1], error["extensions"]) for error in outcome.errors] == [
        (0, told),
        (1, told),
    ]


async def test_a_services_bug_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    services = {
        "shops": Stub(gives(bosses("1"))),
        "people": Stub(gives(RuntimeError("the password is sesame"))),
    }
    outcome = await carry_out(BOSSES, services)
    assert outcome.errors[0]["extensions"]["code"] == "SUBGRAPH_FAILED"
    assert "sesame" not in str(outcome.errors)
    assert "sesame" in caplog.text


async def test_a_service_nobody_knows_is_unreachable() -> None:
    outcome = await carry_out(BOSSES, {})
    assert read(outcome) == {"shops": None}
    assert outcome.errors[0]["extensions"]["code"] == "SUBGRAPH_UNREACHABLE"


async def test_the_deadline_leaves_what_has_come() -> None:
    people = Stub(gives(entities({"name": "Ann"})), seconds=60)
    caller = Caller(deadline=asyncio.get_running_loop().time() + 0.05)
    services = {"shops": Stub(gives(bosses("1"))), "people": people}
    outcome = await carry_out(BOSSES, services, caller=caller)
    assert read(outcome) == {"shops": [{"id": "s0", "boss": {"name": None}}]}
    assert outcome.errors[0]["extensions"]["code"] == "SUBGRAPH_TIMEOUT"
    await asyncio.sleep(0)
    assert people.cancelled == 1


async def test_many_targets_of_one_error_are_told_up_to_a_limit() -> None:
    error = {"message": "odd", "path": ["_entities", 0]}
    people = Stub(gives(entities({"name": "Ann"}, errors=[error] * 5)))
    services = {"shops": Stub(gives(bosses(*["1"] * 3000))), "people": people}
    outcome = await carry_out(BOSSES, services)
    assert len(outcome.errors) == 1000


async def test_a_schema_with_one_object_of_an_interface() -> None:
    schema = build_schema(
        "interface I {a: Int} type A implements I {a: Int} type Query {i: I! is: [I]}"
    )
    operation = normalise(schema, parse("{i{a} is{__typename a}}"), None, {})
    plan = Plan(operation, (fetch(0, "s", "{i{a} is{__typename a}}"),))
    data = {"i": {"a": 1}, "is": [{"__typename": "A", "a": 2}, {"__typename": "Hidden", "a": 3}]}
    outcome = await run(
        Executable(plan, schema), {"s": Stub(gives({"data": data}))}, Caller(), Flights()
    )
    assert read(outcome) == {"i": {"a": 1}, "is": [{"__typename": "A", "a": 2}, None]}
    assert outcome.errors == []


def deep(levels: int) -> Any:
    made: Any = 1
    for _ in range(levels):
        made = [made]
    return made


@both_ways
@pytest.mark.parametrize("levels", [260, 900, 1_020])
async def test_what_is_nested_too_deeply_to_be_written_is_refused(
    levels: int, careful: bool
) -> None:
    plan = planned("{shops{extra}}", fetch(0, "shops", "{shops{extra}}"))
    answer = {"data": {"shops": [{"extra": deep(levels)}]}}
    outcome = await carry_out(plan, {"shops": Stub(gives(answer))}, careful=careful)
    assert outcome.data == b"null"
    assert [one["extensions"]["code"] for one in outcome.errors] == ["RESPONSE_TOO_LARGE"]


async def test_an_error_with_odd_extensions_is_told_without_them() -> None:
    plan = planned("{shops{id}}", fetch(0, "shops", "{shops{id}}"))
    error = {"message": "no", "extensions": {"code": "ODD", "more": deep(600)}}
    outcome = await carry_out(plan, {"shops": Stub(gives({"data": None, "errors": [error]}))})
    told = orjson.loads(Result(outcome.data, outcome.errors).body())
    extensions = {"code": "ODD", "service": "shops"}
    assert told["errors"] == [{"message": "no", "path": ["shops"], "extensions": extensions}]


@pytest.mark.parametrize("value", [2**70, deep(260)], ids=["number", "nested"])
async def test_a_variable_that_cannot_be_sent_costs_its_fetch_only(value: Any) -> None:
    plan = planned(
        "query($id: ID!) {one(id: $id){id} shops{id}}",
        fetch(0, "shops", "{one{id}}", variables=["id"]),
        fetch(1, "people", "{shops{id}}"),
    )
    services = {"shops": Stub(gives({})), "people": Stub(gives(bosses("1")))}
    outcome = await carry_out(plan, services, caller=Caller({"id": value}))
    assert read(outcome) == {"one": None, "shops": [{"id": "s0"}]}
    assert [one["extensions"]["code"] for one in outcome.errors] == ["SUBGRAPH_FAILED"]
    assert services["shops"].asked == []


@both_ways
@pytest.mark.parametrize("odd", [[], 1, {}], ids=["lists", "numbers", "objects"])
async def test_what_is_wrong_too_often_is_refused(odd: Any, careful: bool) -> None:
    plan = planned("{shops{id}}", fetch(0, "shops", "{shops{id}}"))
    answer = {"data": {"shops": [odd] * 250_000}}
    outcome = await carry_out(plan, {"shops": Stub(gives(answer))}, careful=careful)
    assert outcome.data == b"null"
    assert [one["extensions"]["code"] for one in outcome.errors] == ["RESPONSE_TOO_LARGE"]
