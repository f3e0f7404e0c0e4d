"""Supergraphs of every version of the join spec, and the schema clients see of them."""

import pytest
from graphql import GraphQLEnumType, GraphQLObjectType, print_schema, validate_schema

from gateway.federation.errors import InvalidSupergraph
from gateway.federation.supergraph import JOIN_VERSIONS, Supergraph, TypeKind
from tests.unit.federation.small import plan, supergraph

FIRST = """
schema @core(feature: "https://specs.apollo.dev/core/v0.1")
  @core(feature: "https://specs.apollo.dev/join/v0.1") { query: Query }
enum join__Graph {
  SHOPS @join__graph(name: "shops", url: "http://shops.test")
  NOTES @join__graph(name: "notes", url: "http://notes.test")
}
type Query { shops: [Shop] @join__field(graph: SHOPS) notes: [Note] @join__field(graph: NOTES) }
type Shop @join__owner(graph: SHOPS) @join__type(graph: SHOPS, key: "id")
  @join__type(graph: NOTES, key: "id") {
  id: ID! @join__field(graph: SHOPS)
  name: String @join__field(graph: SHOPS)
  place: Place @join__field(graph: SHOPS)
  notes: [Note] @join__field(graph: NOTES)
  size: Int @join__field(graph: SHOPS)
  label: String @join__field(graph: NOTES, requires: "size")
}
type Note { words: String shop: Shop place: Place }
type Place { city: String }
"""


def test_version_one_has_owners_and_values_everywhere() -> None:
    source = Supergraph.parse(FIRST)
    assert set(source.views["notes"]["Shop"].fields) == {"id", "notes", "label"}
    assert set(source.views["shops"]["Shop"].fields) == {"id", "name", "place", "size"}
    assert set(source.views["notes"]["Place"].fields) == {"city"}
    made = plan(source, "{ notes { words place { city } shop { name label } } }")
    assert [one.service for one in made.fetches] == ["notes", "shops", "notes"]


@pytest.mark.parametrize("version", sorted(JOIN_VERSIONS - {(0, 1)}))
def test_later_versions_say_where_everything_is(version: tuple[int, int]) -> None:
    body = """
    type Query @in(graph: A) @in(graph: B) { one: One @from(graph: A) }
    interface Named @in(graph: A) { name: String }
    type One implements Named @as(graph: A, interface: "Named")
      @in(graph: A, key: "id") @in(graph: B, key: "id", extension: true) {
      id: ID!
      name: String @from(graph: A) @from(graph: B, external: true)
      length: Int @from(graph: B, requires: "name", type: "Int!")
    }
    """
    text = supergraph(["a", "b"], body, f"v{version[0]}.{version[1]}")
    source = Supergraph.parse(text)
    one = source.views["b"]["One"]
    assert one.kind is TypeKind.OBJECT
    assert one.fields["name"].external
    assert (one.fields["length"].type, one.fields["length"].lists) == ("Int!", 0)
    assert source.views["a"]["Named"].possible == {"One"}
    assert one.interfaces == frozenset()
    assert len(plan(source, "{ one { length } }").fetches) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("type Query {", "no valid SDL"),
        ("type Query { a: Int }", "no join spec"),
        ('schema @link(url: "https://specs.apollo.dev/link/v1.0")'
         ' @link(url: "https://specs.apollo.dev/join/v9.1", for: EXECUTION) { query: Query }'
         " type Query { a: Int }", "unknown"),
        (supergraph([], "type Query { a: Int }").replace("enum Graphs {  }", ""), "no subgraphs"),
        (supergraph(["a"], "type Query @in(graph: B) { a: Int }"), "unknown subgraph"),
        (supergraph(["a"], 'type Query @in(graph: A, key: "a {") { a: Int }'), "set of fields"),
        (supergraph(["a"], "type Query @in(graph: A) { a: Nowhere }"), "no valid schema"),
        (supergraph(["a"], "type Query @in(graph: A) { a: Int }").replace(
            "{ query", '@link(url: "https://example.test/locks/v1.0", for: SECURITY) { query'
        ), "locks"),
        (supergraph(["a"], "type Query @in(graph: A) { a: Int }").replace(
            "{ query", '@link(url: "https://specs.apollo.dev/policy/v0.1") { query'
        ), "policy"),
    ],
)  # fmt: skip
def test_what_is_no_supergraph_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidSupergraph, match=words):
        Supergraph.parse(text)


HIDDEN = """
directive @inaccessible on FIELD_DEFINITION | OBJECT | ENUM_VALUE | ARGUMENT_DEFINITION
directive @trace(deep: Boolean) on FIELD | FIELD_DEFINITION
directive @own on OBJECT
type Query @in(graph: A) {
  one(kind: Kind = SECRET @inaccessible, open: Kind = PLAIN): One
  secret: Secret @inaccessible
  any: Any
}
enum Kind @in(graph: A) { PLAIN SECRET @inaccessible }
union Any @in(graph: A) @with(graph: A, member: "One") @with(graph: A, member: "Secret")
  = One | Secret
type One @in(graph: A, key: "code") {
  code: ID! @inaccessible
  old: Int @deprecated(reason: "use new")
  time: Time
}
type Secret @in(graph: A) @inaccessible { id: ID! }
scalar Time @in(graph: A) @specifiedBy(url: "https://time.test/")
input Choice @in(graph: A) @oneOf { left: Int right: Int }
"""


def test_clients_see_neither_machinery_nor_what_is_hidden() -> None:
    source = Supergraph.parse(supergraph(["a"], HIDDEN))
    shown = source.api_schema
    assert not validate_schema(shown)
    one, kind = shown.get_type("One"), shown.get_type("Kind")
    assert isinstance(one, GraphQLObjectType)
    assert isinstance(kind, GraphQLEnumType)
    assert set(one.fields) == {"old", "time"}
    assert one.fields["old"].deprecation_reason == "use new"
    assert set(kind.values) == {"PLAIN"}
    assert shown.query_type is not None
    assert set(shown.query_type.fields) == {"one", "any"}
    assert set(shown.query_type.fields["one"].args) == {"open"}
    text = print_schema(shown)
    assert "directive @trace(deep: Boolean) on FIELD" in text
    assert "union Any = One" in text
    assert "oneOf" in text and "https://time.test/" in text
    for gone in ("Secret", "@own", "link__", "Graphs", "@inaccessible", "@in"):
        assert gone not in text.replace("input", "")
    assert "code" in source.views["a"]["One"].fields


def test_hidden_keys_still_lead_on() -> None:
    body = """
    type Query @in(graph: A) @in(graph: B) { one: One @from(graph: A) }
    type One @in(graph: A, key: "code") @in(graph: B, key: "code") {
      code: ID! @inaccessible
      words: String @from(graph: B)
    }
    """
    source = Supergraph.parse(supergraph(["a", "b"], body))
    made = plan(source, "{ one { words } }")
    assert [one.service for one in made.fetches] == ["a", "b"]
