"""The supergraph as text: versions of the join spec, names of graphs, forms of values."""

import pytest
from graphql import build_ast_schema, parse

from gateway.federation.composition.values import value_text
from gateway.federation.supergraph import Supergraph
from tests.unit.federation.composition.federations import definition, supergraph

VERSIONS = {"2.0": "v0.3", "2.6": "v0.3", "2.7": "v0.4", "2.8": "v0.5", "2.9": "v0.5"}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_newest_subgraph_decides_the_join_spec(version: str) -> None:
    sdl = supergraph(
        f"""
        --- old
        type Query {{ a: Int }}
        --- newer
        use {version}
        type Query {{ b: Int }}
        """
    )
    link = f'@link(url: "https://specs.apollo.dev/join/{VERSIONS[version]}", for: EXECUTION)'
    assert link in sdl
    assert ("join__DirectiveArguments" in sdl) == (VERSIONS[version] >= "v0.4")
    assert ("join__ContextArgument" in sdl) == (VERSIONS[version] >= "v0.5")
    assert list(Supergraph.parse(sdl).graphs) == ["newer", "old"]


NAMES = {
    ("shop",): ["SHOP"],
    ("shop-eu", "shop_eu"): ["SHOP_EU_1", "SHOP_EU_2"],
    ("24hours",): ["_24HOURS"],
    ("shop_1",): ["SHOP_1_"],
    ("shop.eu", "shop_eu", "shop_eu_1"): ["SHOP_EU_1", "SHOP_EU_2", "SHOP_EU_1_"],
}


@pytest.mark.parametrize("names", NAMES, ids=" ".join)
def test_graphs_have_distinct_names(names: tuple[str, ...]) -> None:
    parts = [
        f"--- {name}\nuse 2.3\ntype Query {{ f{number}: Int }}" for number, name in enumerate(names)
    ]
    lines = definition(supergraph("\n".join(parts)), "join__Graph").split("\n")[1:-1]
    assert [line.split()[0] for line in lines] == NAMES[names]


NUMBERS = {
    1.0: "1",
    -0.0: "0",
    1.5: "1.5",
    1e20: "100000000000000000000",
    1e21: "1e+21",
    1.25e-7: "1.25e-7",
    0.000001: "0.000001",
    -12345.678: "-12345.678",
    2**60: "1152921504606846976",
    1.5e300: "1.5e+300",
}


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_in_their_shortest_form(number: float) -> None:
    assert value_text(number) == NUMBERS[number]


def test_texts_are_escaped() -> None:
    sdl = supergraph(
        '''
        --- one
        use 2.3
        """
        Two lines,
        and \\""" in them
        """
        type Query { "ends \\"so\\"" a(b: String = "tab\\tquote\\""): Int @deprecated(reason: "é") }
        '''
    )
    schema = build_ast_schema(parse(sdl), assume_valid_sdl=True)
    query = schema.query_type
    assert query is not None
    assert query.description == 'Two lines,\nand """ in them'
    assert query.fields["a"].description == 'ends "so"'
    assert 'a(b: String = "tab\\tquote\\"")' in sdl
    assert query.fields["a"].deprecation_reason == "é"
