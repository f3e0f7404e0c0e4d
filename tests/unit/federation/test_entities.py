"""A gateway as a subgraph: entities by whatever key their representations hold, planned as any."""

import json

import pytest
from graphql import build_schema, execute, parse, print_schema

from gateway.federation.engine import Engine
from gateway.federation.entities import Entities
from gateway.federation.machinery import Planned
from gateway.federation.requests import Request
from gateway.federation.services import Answer
from gateway.federation.supergraph import Supergraph

HEAD = """
schema @link(url: "https://specs.apollo.dev/link/v1.0")
  @link(url: "https://specs.apollo.dev/join/v0.3", for: EXECUTION)
  @link(url: "https://specs.apollo.dev/inaccessible/v0.2", for: SECURITY) { query: Query }
directive @inaccessible on FIELD_DEFINITION | OBJECT
directive @join__field(graph: join__Graph, requires: join__FieldSet, provides: join__FieldSet,
  type: String, external: Boolean, override: String, usedOverridden: Boolean)
  repeatable on FIELD_DEFINITION | INPUT_FIELD_DEFINITION
directive @join__graph(name: String!, url: String!) on ENUM_VALUE
directive @join__type(graph: join__Graph!, key: join__FieldSet, extension: Boolean! = false,
  resolvable: Boolean! = true, isInterfaceObject: Boolean! = false)
  repeatable on OBJECT | INTERFACE | UNION | ENUM | INPUT_OBJECT | SCALAR
directive @link(url: String, as: String, for: link__Purpose, import: [link__Import])
  repeatable on SCHEMA
scalar join__FieldSet
scalar link__Import
enum link__Purpose { SECURITY EXECUTION }
enum join__Graph {
  SHOP @join__graph(name: "shop", url: "") STOCK @join__graph(name: "stock", url: "")
}
"""
SUPERGRAPH = (
    HEAD
    + """
type Query @join__type(graph: SHOP) @join__type(graph: STOCK) {
  items: [Item] @join__field(graph: SHOP)
}
type Item
  @join__type(graph: SHOP, key: "id") @join__type(graph: SHOP, key: "maker { code } number")
  @join__type(graph: SHOP, key: "secret")
  @join__type(graph: STOCK, key: "id") {
  id: ID!
  number: Int @join__field(graph: SHOP)
  secret: ID @join__field(graph: SHOP) @inaccessible
  maker: Maker @join__field(graph: SHOP)
  name: String @join__field(graph: SHOP)
  left: Int @join__field(graph: STOCK)
}
type Maker @join__type(graph: SHOP) { code: ID! }
type Note @join__type(graph: STOCK, key: "id", resolvable: false) { id: ID! }
"""
)
SHOP = build_schema("""
scalar _Any
union _Entity = Item
type Query { items: [Item] _entities(representations: [_Any!]!): [_Entity]! }
type Item { id: ID! number: Int maker: Maker name: String }
type Maker { code: ID! }
""")
STOCK = build_schema("""
scalar _Any
union _Entity = Item
type Query { _entities(representations: [_Any!]!): [_Entity]! }
type Item { id: ID! left: Int }
""")
ITEMS = {
    name: {
        "__typename": "Item", "id": name, "number": number, "maker": {"code": "m"},
        "name": f"Item {name}", "left": 10 * number,
    }
    for number, name in enumerate("ab", 1)
}  # fmt: skip


class Local:
    """A subgraph that finds items by any of their keys, and notes what it was asked."""

    def __init__(self, schema) -> None:
        self.schema, self.asked = schema, []

    async def fetch(self, request):
        self.asked.append(dict(request.variables))

        def entities(_, representations):
            return [self.find(one) for one in representations]

        root = {"items": list(ITEMS.values()), "_entities": entities}
        found = execute(
            self.schema, parse(request.text), root, variable_values=dict(request.variables),
            type_resolver=lambda *_: "Item",
        )  # fmt: skip
        return Answer.of(found.formatted)

    def find(self, wanted):
        for item in ITEMS.values():
            if all(item[key] == value for key, value in wanted.items()):
                return item
        return None


@pytest.fixture
def services():
    return {"shop": Local(SHOP), "stock": Local(STOCK)}


@pytest.fixture
def engine(services):
    planned = Planned(Supergraph.parse(SUPERGRAPH), services, entities=True)
    return Engine(planned)


QUERY = "query($r: [_Any!]!) { _entities(representations: $r) { ... on Item { name left } } }"


async def entities(engine, *representations, query=QUERY):
    result = await engine.execute(Request(query, {"r": list(representations)}))
    return json.loads(result.body())


async def test_an_entity_is_found_by_any_key_it_is_sent_with(engine, services):
    by_id, by_number = {"id": "a"}, {"maker": {"code": "m"}, "number": 2}
    found = await entities(engine, {"__typename": "Item", **by_id})
    assert found == {"data": {"_entities": [{"name": "Item a", "left": 10}]}}
    assert [len(one.asked) for one in services.values()] == [1, 1]
    found = await entities(engine, {"__typename": "Item", **by_number})
    assert found == {"data": {"_entities": [{"name": "Item b", "left": 20}]}}
    assert services["shop"].asked[-1] == {"representations": [{"__typename": "Item", **by_number}]}


async def test_what_is_no_entity_is_null_and_the_others_are_not(engine):
    representations = ({"__typename": "Nothing", "id": "a"}, {"id": "a"}, {"__typename": "Item"},
        {"__typename": "Item", "secret": "s"}, {"__typename": "Note", "id": "n"}, 3, None,
        {"__typename": "Item", "id": "a"})  # fmt: skip
    found = await entities(engine, *representations[:6], representations[-1])
    assert found["data"]["_entities"] == [*[None] * 6, {"name": "Item a", "left": 10}]
    assert "errors" in await entities(engine, None)


async def test_nothing_but_what_is_no_entity(engine):
    found = await entities(engine, {"__typename": "Item"}, {"__typename": "Nothing", "id": "a"})
    assert found == {"data": {"_entities": [None, None]}}
    assert await entities(engine) == {"data": {"_entities": []}}


async def test_keys_alone_need_no_subgraph(engine, services):
    query = """query($r: [_Any!]!) {
      them: _entities(representations: $r) { __typename ... on Item { key: id } }
    }"""
    found = await entities(engine, {"__typename": "Item", "id": "a"}, query=query)
    assert found == {"data": {"them": [{"__typename": "Item", "key": "a"}]}}
    assert not services["shop"].asked


async def test_representations_written_into_the_document(engine):
    query = """{
      a: _entities(representations: [{__typename: "Item", id: "a"}]) { ... on Item { left } }
      b: _entities(representations: [{__typename: "Item", id: "b"}]) { ... on Item { name } }
      __typename
      items { id left }
    }"""
    result = await engine.execute(Request(query))
    assert json.loads(result.body())["data"] == {
        "a": [{"left": 10}],
        "b": [{"name": "Item b"}],
        "__typename": "Query",
        "items": [{"id": "a", "left": 10}, {"id": "b", "left": 20}],
    }


async def test_representations_without_a_common_key_cannot_be_planned(engine):
    mixed = ({"id": "a"}, {"maker": {"code": "m"}, "number": 2})
    found = await entities(engine, *({"__typename": "Item", **one} for one in mixed))
    assert found["errors"][0]["extensions"]["code"] == "NO_PLAN"


def test_the_sdl_is_the_api_schema_with_the_keys_clients_may_see():
    made = Entities(Supergraph.parse(SUPERGRAPH))
    assert made.sdl.startswith("extend schema @link(")
    assert '@key(fields: "id") @key(fields: "maker { code } number")' in made.sdl
    assert "secret" not in made.sdl
    assert "_entities" not in made.sdl
    assert "type Note {" in made.sdl
    assert "union _Entity = Item" in print_schema(made.schema)


async def test_the_sdl_is_served(engine):
    result = await engine.execute(Request("{ _service { text: sdl __typename } }"))
    served = json.loads(result.body())["data"]["_service"]
    assert served["__typename"] == "_Service"
    assert served["text"] == Entities(Supergraph.parse(SUPERGRAPH)).sdl


async def test_without_the_option_there_is_no_such_field(services):
    engine = Engine(Planned(Supergraph.parse(SUPERGRAPH), services))
    assert (await engine.execute(Request("{ _service { sdl } }"))).stage == "validation"
