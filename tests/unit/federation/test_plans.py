"""Plans as text: every kept plan is what the planner makes of its query today."""

from pathlib import Path

import pytest
from graphql import build_schema, parse, validate

from gateway.federation.errors import NoPlan
from gateway.federation.normalise import normalise
from gateway.federation.plan import Plan, Selected, SelectedField
from gateway.federation.planner import Planner
from gateway.federation.supergraph import Supergraph
from tests.unit.federation.small import files, kept, plan, printed, supergraph


@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_kept_plans_are_still_made(path: Path) -> None:
    source, queries, plans = kept(path.read_text("utf-8"))
    for query, expected in zip(queries, plans, strict=True):
        assert printed(source, query) == expected


@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_what_is_sent_is_well_formed_and_the_same_twice(path: Path) -> None:
    source, queries, plans = kept(path.read_text("utf-8"))
    for query, text in zip(queries, plans, strict=True):
        if not text.startswith("no plan"):
            one, other = plan(source, query), plan(source, query)
            assert one == other
            for fetch in one.fetches:
                parse(fetch.text)
                assert all(number < fetch.number for number in fetch.after)


BODY = """
type Query @in(graph: OLD) @in(graph: NEW) { offer: Offer @from(graph: OLD) }
type Offer @in(graph: OLD, key: "id") @in(graph: NEW, key: "id") {
  id: ID!
  fen: Int @from(graph: OLD) @from(graph: NEW, override: "old", overrideLabel: "half")
}
"""


def services(made: Plan) -> list[str]:
    return [fetch.service for fetch in made.fetches]


def test_a_label_moves_a_field_only_while_it_is_active() -> None:
    source = Supergraph.parse(supergraph(["old", "new"], BODY))
    assert source.labels == {"half"}
    assert services(plan(source, "{ offer { fen } }")) == ["old"]
    assert services(plan(source, "{ offer { fen } }", ["half"])) == ["old", "new"]
    assert services(plan(source, "{ offer { fen } }", ["unheard of"])) == ["old"]


def keys(selections: tuple[Selected, ...]) -> set[str]:
    found: set[str] = set()
    for one in selections:
        if isinstance(one, SelectedField):
            found.add(one.key)
        found |= keys(one.selections)
    return found


TYPES = """
type Query @in(graph: WALL) { things: [Thing] }
union Thing @in(graph: WALL) @with(graph: WALL, member: "Poster") @with(graph: WALL, member: "Lamp")
  = Poster | Lamp
type Poster @in(graph: WALL) { size: Int @from(graph: WALL, type: "Int!") maker: Maker }
type Lamp @in(graph: WALL) { size: Int maker: Other @from(graph: WALL, type: "Maker") }
type Maker @in(graph: WALL) { id: ID! }
type Other @in(graph: WALL) { id: ID! }
"""


def test_one_subgraph_is_never_asked_for_fields_that_do_not_merge() -> None:
    """The members' fields differ in the subgraph only; there the text must be valid."""
    source = Supergraph.parse(supergraph(["wall"], TYPES))
    made = plan(source, "{ things { ... on Poster { size } ... on Lamp { size } } }")
    wall = build_schema(
        "type Query { things: [Thing] } union Thing = Poster | Lamp"
        " type Poster { size: Int! } type Lamp { size: Int }"
    )
    assert not validate(wall, parse(made.fetches[0].text))
    assert keys(made.fetches[0].selections) == {"things", "__typename", "size", "size_1"}


def test_a_field_leads_back_to_its_own_root_alone_where_that_is_wanted() -> None:
    """Who admits root fields by an operation's own must not be asked for others further in."""
    body = """
    type Query @in(graph: TILL) @in(graph: OFFERS) {
      till: Till @from(graph: TILL) offers: Int @from(graph: OFFERS)
    }
    type Till @in(graph: TILL) { query: Query till: Int }
    """
    source = Supergraph.parse(supergraph(["till", "offers"], body))
    query = "{ till { query { offers } } }"
    assert services(plan(source, query)) == ["till", "offers"]
    operation = normalise(source.api_schema, parse(query), None, {})
    with pytest.raises(NoPlan):
        Planner(source, reenter=False).plan(operation)
