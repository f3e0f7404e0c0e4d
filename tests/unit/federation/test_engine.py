"""A request is prepared once and run every time; what fails does so at its own stage."""

import asyncio
import time

import pytest

from gateway.federation.documents import Trusted, digest
from gateway.federation.engine import Engine, Options
from gateway.federation.limits import Limits
from gateway.federation.requests import Request
from tests.unit.federation.stub import Stub


async def answered(engine: Engine, query: str | None, **more):
    return await engine.execute(Request(query, **more))


async def test_a_document_is_prepared_once_whatever_its_values():
    stub = Stub()
    engine = Engine(stub)
    query = "query($name: String) { hello(name: $name) }"
    for name in ("a", "b", "c"):
        result = await answered(engine, query, variables={"name": name})
        assert result.body() == b'{"data":{"hello":"hello %b"}}' % name.encode()
    assert len(stub.prepared) == 1


async def test_conditions_labels_and_operation_names_have_plans_of_their_own():
    stub = Stub()
    engine = Engine(stub, Options(labels=lambda request: frozenset(request.state or ())))
    query = "query A($c: Boolean = true) { n @include(if: $c) hello } query B { n }"
    for name, variables in (("A", {}), ("A", {"c": False}), ("A", {"c": True}), ("B", {})):
        await answered(engine, query, operation_name=name, variables=variables)
    assert [text for text, _ in stub.prepared] == [
        "query {n hello}", "query {hello}", "query {n}",
    ]  # fmt: skip
    await answered(engine, query, operation_name="B", state=("early",))
    assert stub.prepared[3] == ("query {n}", frozenset({"early"}))


@pytest.mark.parametrize(
    ("query", "stage", "code"),
    [
        ("{ n", "parse", "GRAPHQL_PARSE_FAILED"),
        ("", "parse", "GRAPHQL_PARSE_FAILED"),
        ("{ unknown }", "validation", "GRAPHQL_VALIDATION_FAILED"),
        ("{ n n: hello }", "validation", "GRAPHQL_VALIDATION_FAILED"),
        ("{ ... @defer { n } }", "validation", "GRAPHQL_VALIDATION_FAILED"),
        ("query A { n } query B { n }", "operation", "OPERATION_RESOLUTION_FAILURE"),
        ("query($c: Colour!) { colour(c: $c) }", "coercion", "BAD_USER_INPUT"),
        ("subscription { count(to: 1) }", "operation", "OPERATION_RESOLUTION_FAILURE"),
        ("{" + "self {" * 60 + "n" + "}" * 60 + "}", "limits", "QUERY_TOO_EXPENSIVE"),
        ("{" + "n " * 11_000 + "}", "limits", "QUERY_TOO_EXPENSIVE"),
        ("type X { y: Int } { n }", "validation", "GRAPHQL_VALIDATION_FAILED"),
    ],
)
async def test_what_is_refused_has_no_data_and_names_its_stage(query, stage, code):
    engine = Engine(Stub())
    for _ in range(2):  # The second time from memory.
        result = await answered(engine, query)
        assert (result.data, result.stage) == (None, stage)
        assert result.errors[0]["extensions"]["code"] == code
        assert b'"data"' not in result.body()


async def test_defer_is_refused_for_what_it_is():
    result = await answered(Engine(Stub()), "{ ... @defer { n } self @stream { n } }")
    messages = [error["message"] for error in result.errors]
    assert messages == [
        f"@{name} is not supported: an answer comes as one." for name in ("defer", "stream")
    ]


async def test_no_plan_is_null_data_with_an_error():
    result = await answered(Engine(Stub()), "{ n lost }")
    assert result.data == b"null"
    assert result.errors[0]["path"] == ["lost"]
    assert result.stage is None


async def test_a_planner_that_fails_is_no_crash(caplog):
    stub = Stub()
    stub.prepare = lambda *_: 1 // 0
    for query in ("{ n }", "{ n " + " " * 4_000 + "}"):
        result = await answered(Engine(stub), query)
        assert (result.status, result.errors[0]["extensions"]["code"]) == (500, "INTERNAL")
    assert "ZeroDivisionError" in caplog.text


async def test_errors_do_not_suggest_what_there_is():
    engine = Engine(Stub(), Options(introspection=False))
    for query in (
        "{ helo }",
        "{ __schema { types { name } } }",
        '{ __type(name: "Query") { name } }',
    ):
        result = await answered(engine, query)
        assert result.stage == "validation"
        assert "Did you mean" not in result.errors[0]["message"]
    assert (await answered(engine, "{ __typename }")).data == b'{"__typename":"Query"}'


async def test_those_who_wait_for_one_document_wait_for_one_preparation():
    stub = Stub()
    stub.slow = 0.05
    engine = Engine(stub)
    query = "{" + " ".join(f"k{n}: n" for n in range(150)) + " " * 3_000 + "}"
    results = await asyncio.gather(*(answered(engine, query) for _ in range(20)))
    assert len({result.body() for result in results}) == 1
    assert len(stub.prepared) == 1


async def test_one_who_waits_and_goes_takes_nobody_along():
    stub = Stub()
    stub.slow = 0.05
    engine = Engine(stub)
    query = "{ n " + " " * 4_000 + "}"
    first = asyncio.create_task(answered(engine, query))
    second = asyncio.create_task(answered(engine, query))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).data == b'{"n":1}'
    assert len(stub.prepared) == 1


async def test_too_many_large_new_documents_are_told_to_come_back():
    stub = Stub()
    stub.slow = 0.02
    engine = Engine(stub)
    asked = (answered(engine, "{ n " + " " * (4_000 + n) + "}") for n in range(80))
    results = await asyncio.gather(*asked)
    assert {result.status for result in results} == {200, 503}
    assert sum(result.status == 503 for result in results) == 16
    engine.close()


async def test_memory_is_bounded():
    stub = Stub()
    engine = Engine(stub, Options(documents=10, document_bytes=10_000))
    for number in range(50):
        await answered(engine, f"{{ a{number}: n }}")
    assert len(engine._graph.documents) == 10
    for _ in range(2):
        await answered(engine, "{ a0: n }")
    assert len(stub.prepared) == 51
    await answered(engine, "{ n " + " " * 9_000 + "}")
    assert engine._graph.documents.weight < 10_000
    query = "query(" + " ".join(f"$c{n}: Boolean!" for n in range(8)) + ") {"
    query += " ".join(f"c{n}: n @skip(if: $c{n})" for n in range(8)) + "}"
    for bits in range(200):
        await answered(engine, query, variables={f"c{n}": bool(bits >> n & 1) for n in range(8)})
    prepared = engine._graph.documents.get(query).operations[None]
    assert len(prepared.plans) == 64


async def test_labels_that_are_drawn_are_those_of_the_plan():
    class Drawing(Stub):
        labelled = True

        def labels(self, request):
            self.drawn = (getattr(self, "drawn", 0) + 1) % 3
            return frozenset({str(self.drawn)})

    stub = Drawing()
    engine = Engine(stub)
    for _ in range(10):
        await answered(engine, "{ n }")
    plans = engine._graph.documents.get("{ n }").operations[None].plans
    assert sorted(stub.prepared, key=str) == sorted(
        [("query {n}", key[0]) for key in plans], key=str
    )
    assert not engine.plain


async def test_another_supergraph_serves_from_the_next_request_on():
    old, new = Stub("old"), Stub("new")
    old.gate = asyncio.Event()
    engine = Engine(old)
    running = asyncio.create_task(answered(engine, "{ hello }"))
    await old.asked.wait()
    engine.swap(new)
    assert (await answered(engine, "{ hello }")).data == b'{"hello":"new"}'
    old.gate.set()
    assert (await running).data == b'{"hello":"old"}'


async def test_a_warm_request_is_found_in_no_time():
    engine = Engine(Stub())
    query = "query Find($name: String, $with: Boolean = true)"
    query += " { hello(name: $name) n @include(if: $with) }"
    request = Request(query, {"name": "x"}, "Find")
    await engine.execute(request)
    best = 1.0
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(200):
            assert engine.warm(request) is not None
        best = min(best, (time.perf_counter() - began) / 200)
    assert best < 20e-6, f"{best * 1e6:.1f} µs"


async def test_trusted_documents_alone_are_answered_where_that_is_asked_for():
    told: list[tuple[str | None, str]] = []
    clients = {"app": {digest("{ n }"): "{ n }"}}
    engine = Engine(Stub(), Options(trusted=Trusted("only", clients)))
    assert (await answered(engine, None, document=digest("{ n }"), client="app")).data == b'{"n":1}'
    refused = await answered(engine, "{ hello }", client="app")
    assert refused.errors[0]["extensions"]["code"] == "DOCUMENT_NOT_TRUSTED"
    unknown = await answered(engine, None, document=digest("{ hello }"), client="app")
    assert unknown.errors[0]["extensions"]["code"] == "PERSISTED_QUERY_NOT_FOUND"
    options = Options(trusted=Trusted("log", clients), untrusted=lambda *one: told.append(one))
    engine = Engine(Stub(), options)
    assert (await answered(engine, "{ n }", client="app")).data == b'{"n":1}'
    assert (await answered(engine, "{ hello }", client="app")).data == b'{"hello":"hello"}'
    assert told == [("app", "{ hello }")]


async def test_cost_by_variable_is_measured_for_every_request():
    engine = Engine(Stub(), Options(limits=Limits(cost=5)))
    query = "query($n: Int) { page(first: $n) { self { n } } }"
    few = await answered(engine, query, variables={"n": 2})
    assert few.data == b'{"page":[{"self":{"n":1}},{"self":{"n":1}}]}'
    assert (await answered(engine, query, variables={"n": 5})).stage == "limits"
    assert (await answered(engine, "{ page(first: 4) { self { n } } }")).stage is None
    for _ in range(2):
        assert (await answered(engine, "{ page(first: 5) { self { n } } }")).stage == "limits"


async def test_a_mutation_is_refused_to_who_may_only_read():
    stub = Stub()
    engine = Engine(stub)
    refused = await answered(engine, "mutation { add }", read_only=True)
    assert (refused.status, refused.hard, stub.added) == (405, True, 0)
    assert (await answered(engine, "mutation { add }")).data == b'{"add":1}'


async def test_a_subscription_gives_its_events_and_a_query_one():
    engine = Engine(Stub())
    request = Request("subscription($to: Int!) { count(to: $to) }", {"to": 2})
    assert [one.data async for one in engine.subscribe(request)] == [b'{"count":0}', b'{"count":1}']
    assert [one.data async for one in engine.subscribe(Request("{ n }"))] == [b'{"n":1}']
    assert [one.stage async for one in engine.subscribe(Request("{ nn }"))] == ["validation"]
    assert [one.data async for one in engine.subscribe(Request("{ lost }"))] == [b"null"]
