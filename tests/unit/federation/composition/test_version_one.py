"""Documents of version 1: what they implied is said, what meant nothing is dropped."""

import pytest

from gateway.federation.composition.loading import load_all
from gateway.federation.composition.subgraph import Subgraph
from tests.unit.federation.composition.federations import codes, subgraphs

OFFERS = """
    --- offers
    type Query { offer: Offer }
    type Offer @key(fields: "id") { id: ID! price: Int rate: Int shop: Shop }
    type Shop { id: ID! town: String }
    """


def loaded(text: str, name: str = "other") -> Subgraph:
    found, errors = load_all(subgraphs(OFFERS + text))
    assert not errors
    return next(subgraph for subgraph in found if subgraph.name == name)


def external(subgraph: Subgraph, name: str) -> set[str]:
    return {field.name for field in subgraph.types[name].fields.values() if field.external}


def fields(subgraph: Subgraph, coordinate: str) -> str | None:
    """The field set of `@requires` or `@provides` on a field."""
    name, _, field = coordinate.partition(".")
    applied = subgraph.types[name].fields[field].directives
    found = [one.arguments["fields"] for one in applied if one.name in {"requires", "provides"}]
    return str(found[0]) if found else None


def test_the_key_of_an_extension_is_resolved_where_it_is() -> None:
    other = loaded('--- other\nextend type Offer @key(fields: "id") { id: ID! @external x: Int }')
    assert external(other, "Offer") == set()
    assert not other.types["Offer"].extension


def test_so_is_the_key_its_definition_has_elsewhere() -> None:
    other = loaded("--- other\nextend type Offer { id: ID! @external x: Int }")
    assert external(other, "Offer") == set()


def test_the_key_of_a_definition_stays_external() -> None:
    other = loaded('--- other\ntype Offer @key(fields: "id") { id: ID! @external x: Int }')
    assert external(other, "Offer") == {"id"}


def test_only_the_keys_of_extensions_count_where_there_are_both() -> None:
    other = loaded(
        '--- other\ntype Offer @key(fields: "id") { id: ID! @external }'
        ' extend type Offer @key(fields: "rate") { rate: Int @external }'
    )
    assert external(other, "Offer") == {"id"}


def test_external_fields_that_nothing_uses_are_gone() -> None:
    other = loaded(
        '--- other\nextend type Offer @key(fields: "id")'
        " { id: ID! @external price: Int @external rate: Int @external"
        ' cents: Int @requires(fields: "rate") }'
    )
    assert set(other.types["Offer"].fields) == {"id", "rate", "cents"}
    assert external(other, "Offer") == {"rate"}


def test_a_type_with_nothing_else_is_gone_with_them() -> None:
    other = loaded("--- other\ntype Query { x: Int } extend type Offer { price: Int @external }")
    assert "Offer" not in other.types


def test_fields_an_interface_asks_for_stay() -> None:
    other = loaded(
        "--- other\ninterface Priced { price: Int }"
        ' extend type Offer implements Priced @key(fields: "id")'
        " { id: ID! @external price: Int @external }"
    )
    assert external(other, "Offer") == {"price"}


def test_requiring_what_is_resolved_here_meant_nothing() -> None:
    other = loaded(
        '--- other\nextend type Offer @key(fields: "id") { id: ID! @external rate: Int @external'
        ' a: Int @requires(fields: "id") b: Int @requires(fields: "id rate")'
        ' shop: Shop c: Int @requires(fields: "shop { id town }") }'
        " extend type Shop { id: ID! town: String @external }"
    )
    assert fields(other, "Offer.a") is None
    assert fields(other, "Offer.b") == "rate"
    assert fields(other, "Offer.c") is not None
    assert "".join(str(fields(other, "Offer.c")).split()) == "shop{town}"


def test_so_did_providing_it_or_of_a_number() -> None:
    other = loaded(
        '--- other\ntype Query { o: Offer @provides(fields: "id price")'
        ' n: Int @provides(fields: "id") i: Offer @provides(fields: "id") }'
        ' extend type Offer @key(fields: "id") { id: ID! @external price: Int @external }'
    )
    assert fields(other, "Query.o") == "price"
    assert fields(other, "Query.n") is None
    assert fields(other, "Query.i") is None


def test_directives_on_interfaces_meant_nothing() -> None:
    other = loaded(
        '--- other\ninterface Priced @key(fields: "price")'
        ' { price: Int @external rate: Int @requires(fields: "price") }'
    )
    assert other.types["Priced"].directives == []
    assert external(other, "Priced") == set()
    assert fields(other, "Priced.rate") is None


def test_field_sets_may_be_lists_and_names() -> None:
    other = loaded('--- other\ntype A @key(fields: ["x", "y"]) @key(fields: x) { x: Int y: Int }')
    keys = [one.arguments["fields"] for one in other.types["A"].directives]
    assert keys == ["x y", "x"]


def test_what_two_declare_they_share() -> None:
    other = loaded("--- other\ntype Shop { id: ID! town: String street: String }")
    shared = {name: one.shareable for name, one in other.types["Shop"].fields.items()}
    assert shared == {"id": True, "town": True, "street": False}


def test_a_tag_is_told_once() -> None:
    text = (
        '--- first\ntype A @key(fields: "x") { x: Int y: Int @tag(name: "t") }\n'
        '--- other\ntype A @key(fields: "x") { x: Int y: Int @external @tag(name: "t")'
        ' z: Int @requires(fields: "y") }'
    )
    other = loaded(text)
    assert [one.name for one in other.types["A"].fields["y"].directives] == ["external"]


REFUSED = {
    "an extension of nothing": ("extend type Gift { x: Int }", {"EXTENSION_WITH_NO_BASE"}),
    "an extension of nothing, by directive": (
        "type Gift @extends { x: Int }",
        {"EXTENSION_WITH_NO_BASE"},
    ),
    "extensions of all kinds of nothing": (
        "extend enum E { A } extend input I { x: Int } extend interface F { x: Int }",
        {"EXTENSION_WITH_NO_BASE"},
    ),
    "a type with unused externals only": (
        "type Query { g: Gift } type Gift { x: Int @external }",
        {"TYPE_WITH_ONLY_UNUSED_EXTERNAL"},
    ),
    "that, and a mistake of version two as well": (
        'type Query { g: Gift } type Gift { x: Int @external } type K @key(fields: "z") { x: Int }',
        {"TYPE_WITH_ONLY_UNUSED_EXTERNAL"},
    ),
    "a key of nothing": ('type K @key(fields: "z") { x: Int }', {"KEY_INVALID_FIELDS"}),
    "a key that is a number": ("type K @key(fields: 1) { x: Int }", {"KEY_INVALID_FIELDS_TYPE"}),
    "a provision of nothing": (
        'type Query { k: K @provides(fields: "z") } type K { x: Int }',
        {"PROVIDES_INVALID_FIELDS"},
    ),
    "a later directive": ("type K @interfaceObject { x: Int }", {"INVALID_GRAPHQL"}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    text, expected = REFUSED[name]
    assert codes(f"{OFFERS}--- other\n{text}") == expected


def test_two_extensions_by_directive_are_each_other_s_definition() -> None:
    sdl = 'type Gift @extends @key(fields: "x") { x: Int }'
    assert codes(f"{OFFERS}--- one\n{sdl}\n--- two\n{sdl}") == set()


def test_keys_of_old_interfaces_do_not_serve_interface_objects() -> None:
    old = 'interface I KEY { id: ID } type A implements I @key(fields: "id") { id: ID }'
    new = "--- new\nuse 2.3 key interfaceObject\n"
    new += 'type I @interfaceObject @key(fields: "id") { id: ID }'
    keyed = old.replace("KEY", '@key(fields: "id")')
    assert codes(f"{OFFERS}--- old\n{keyed}\n{new}") == {"INTERFACE_OBJECT_USAGE_ERROR"}
    assert codes(f"{OFFERS}--- old\n{old.replace('KEY', '')}\n{new}") == set()


def test_errors_of_version_two_come_first() -> None:
    federation = (
        f'{OFFERS}--- one\nuse 2.3 key\ntype K @key(fields: "z") {{ x: Int }}\n'
        "--- two\nextend type Gift { x: Int }"
    )
    assert codes(federation) == {"KEY_INVALID_FIELDS"}
