"""Rules on external and shareable fields, roots, interface objects, costs, access and contexts."""

import pytest

from gateway.federation.composition.loading import load

NAMES = (
    "key requires provides external shareable override interfaceObject cost listSize"
    " authenticated policy context fromContext"
)
LINK = (
    'extend schema @link(url: "https://specs.apollo.dev/federation/v2.9", import: ['
    + ", ".join(f'"@{name}"' for name in NAMES.split())
    + "])\n"
)
FINE = set[str]()
CASES: dict[str, tuple[str, set[str]]] = {
    "external, for a key": ('type A @key(fields: "x") { x: Int @external }', FINE),
    "external, for an interface": (
        "interface I { x: Int } type A implements I { x: Int @external }",
        FINE,
    ),
    "external, for nothing": ("type A { x: Int @external }", {"EXTERNAL_UNUSED"}),
    "external, the whole type": ("type A @external { x: Int }", {"EXTERNAL_UNUSED"}),
    "external, the whole type by an extension": (
        'type A @key(fields: "x") { x: Int } extend type A @external { y: Int }',
        {"EXTERNAL_UNUSED"},
    ),
    "external, on an interface": (
        'interface I @key(fields: "x") { x: Int @external }',
        {"EXTERNAL_ON_INTERFACE"},
    ),
    "external and provides": (
        'type A @key(fields: "x") { x: Int b: B @external @provides(fields: "y") }'
        " type B { y: Int @external }",
        {"EXTERNAL_COLLISION_WITH_ANOTHER_DIRECTIVE"},
    ),
    "shareable, on an interface": (
        "interface I { x: Int @shareable }",
        {"INVALID_SHAREABLE_USAGE"},
    ),
    "shareable, type and field": ("type A @shareable { x: Int @shareable }", FINE),
    "shareable, definition and extension": (
        "type A @shareable { x: Int } extend type A @shareable { y: Int }",
        FINE,
    ),
    "shareable, twice on a type": (
        "type A @shareable @shareable { x: Int }",
        {"INVALID_SHAREABLE_USAGE"},
    ),
    "shareable, twice on a field": (
        "type A { x: Int @shareable @shareable }",
        {"INVALID_SHAREABLE_USAGE"},
    ),
    "a query type that is none": (
        "schema { query: Root } type Root { x: Int } type Query { x: Int }",
        {"ROOT_QUERY_USED"},
    ),
    "a mutation type that is none": (
        "schema { query: Q mutation: M } type Q { x: Int } type M { x: Int } enum Mutation { A }",
        {"ROOT_MUTATION_USED"},
    ),
    "a subscription type that is none": (
        "schema { query: Q subscription: S } type Q { x: Int } type S { x: Int }"
        " type Subscription { x: Int }",
        {"ROOT_SUBSCRIPTION_USED"},
    ),
    "an interface object": ('type I @interfaceObject @key(fields: "x") { x: Int }', FINE),
    "an interface object without a key": (
        "type I @interfaceObject { x: Int }",
        {"INTERFACE_OBJECT_USAGE_ERROR"},
    ),
    "a cost": (
        "type A @cost(weight: 1) { x(a: Int @cost(weight: 2)): Int @cost(weight: 3) }",
        FINE,
    ),
    "a cost of an interface's field": (
        "interface I { x: Int @cost(weight: 1) }",
        {"COST_APPLIED_TO_INTERFACE_FIELD"},
    ),
    "a list's size": ("type A { x: [Int] @listSize(assumedSize: 0) }", FINE),
    "a size of no list": (
        "type A { x: Int @listSize(assumedSize: 1) }",
        {"LIST_SIZE_APPLIED_TO_NON_LIST"},
    ),
    "a negative size": (
        "type A { x: [Int] @listSize(assumedSize: -1) }",
        {"LIST_SIZE_INVALID_ASSUMED_SIZE"},
    ),
    "a slicing argument": ('type A { x(n: Int!): [Int] @listSize(slicingArguments: ["n"]) }', FINE),
    "an unknown slicing argument": (
        'type A { x: [Int] @listSize(slicingArguments: ["n"]) }',
        {"LIST_SIZE_INVALID_SLICING_ARGUMENT"},
    ),
    "a slicing argument that is no number": (
        'type A { x(n: String): [Int] @listSize(slicingArguments: ["n"]) }',
        {"LIST_SIZE_INVALID_SLICING_ARGUMENT"},
    ),
    "sized fields": ('type A { x: B @listSize(sizedFields: ["y"]) } type B { y: [Int] }', FINE),
    "sized fields that are no lists": (
        'type A { x: B @listSize(sizedFields: ["y"]) } type B { y: Int }',
        {"LIST_SIZE_APPLIED_TO_NON_LIST"},
    ),
    "unknown sized fields": (
        'type A { x: B @listSize(sizedFields: ["z"]) } type B { y: [Int] }',
        {"LIST_SIZE_INVALID_SIZED_FIELD"},
    ),
    "sized fields of a number": (
        'type A { x: Int @listSize(sizedFields: ["y"]) }',
        {"LIST_SIZE_INVALID_SIZED_FIELD"},
    ),
    "access to an object": ('type A @authenticated { x: Int @policy(policies: [["p"]]) }', FINE),
    "access to an interface": (
        "interface I @authenticated { x: Int }",
        {"AUTH_REQUIREMENTS_APPLIED_ON_INTERFACE"},
    ),
    "access to an interface's field": (
        'interface I { x: Int @policy(policies: [["p"]]) }',
        {"AUTH_REQUIREMENTS_APPLIED_ON_INTERFACE"},
    ),
    "access to an interface object": (
        'type I @interfaceObject @key(fields: "x") @authenticated { x: Int }',
        {"AUTH_REQUIREMENTS_APPLIED_ON_INTERFACE"},
    ),
}


def codes(sdl: str) -> set[str]:
    sdl = sdl if "Query" in sdl or "schema" in sdl else f"{sdl} type Query {{ a: Int }}"
    return {error.code for error in load("offers", "", LINK + sdl)[1]}


@pytest.mark.parametrize("name", CASES)
def test_codes(name: str) -> None:
    sdl, expected = CASES[name]
    assert codes(sdl) == expected


def test_rules_are_told_together_but_for_impossible_provisions() -> None:
    several = (
        'type A @key(fields: "z") { x: Int @external } interface I { x: Int @shareable }'
        " schema { query: Q mutation: M } type Q { x: Int } type M { x: Int } enum Mutation { A }"
    )
    assert codes(several) == {
        "KEY_INVALID_FIELDS",
        "EXTERNAL_UNUSED",
        "INVALID_SHAREABLE_USAGE",
        "ROOT_MUTATION_USED",
    }
    assert codes(several + ' type P { x: Int @provides(fields: "x") }') == {
        "PROVIDES_ON_NON_OBJECT_FIELD"
    }


CONTEXT = """
type Shop {shop} @key(fields: "id") {{ id: ID! offer: Offer rate: Int {rate} names: [String] }}
type Offer {offer} {{ id: ID! price({argument}): Int }}
"""
KEYED = '@key(fields: "id")'
CONTEXTS = {
    "taken": ("$shop { rate }", "Int", set[str]()),
    "taken by type": ("$shop ... on Shop { rate }", "Int", set()),
    "a list": ("$shop { names }", "[String]", set()),
    "no context named": ("rate", "Int", {"NO_CONTEXT_IN_SELECTION"}),
    "nothing selected": ("$shop", "Int", {"NO_CONTEXT_IN_SELECTION"}),
    "a context nobody sets": ("$mall { rate }", "Int", {"CONTEXT_NOT_SET"}),
    "another type": ("$shop { names }", "Int", {"CONTEXT_INVALID_SELECTION"}),
    "what is never null": ("$shop { rate }", "Int!", {"CONTEXT_INVALID_SELECTION"}),
    "an unknown field": ("$shop { rates }", "Int", {"CONTEXT_INVALID_SELECTION"}),
    "two fields": ("$shop { rate id }", "Int", {"CONTEXT_INVALID_SELECTION"}),
    "an alias": ("$shop { r: rate }", "Int", {"CONTEXT_INVALID_SELECTION"}),
    "a directive": ("$shop { rate @skip(if: true) }", "Int", {"CONTEXT_INVALID_SELECTION"}),
    "no syntax": ("$shop {", "Int", {"CONTEXT_INVALID_SELECTION"}),
    "of another type": ("$shop ... on Offer { id }", "Int", {"CONTEXT_INVALID_SELECTION"}),
    "a default": ("$shop { rate }", "Int = 1", {"CONTEXT_NOT_SET"}),
}


@pytest.mark.parametrize("name", CONTEXTS)
def test_contextual_arguments(name: str) -> None:
    selection, type_, expected = CONTEXTS[name]
    argument = f'a: {type_} @fromContext(field: "{selection}")'
    sdl = CONTEXT.format(shop='@context(name: "shop")', offer=KEYED, rate="", argument=argument)
    assert codes(sdl) == expected


CONTEXT_PLACES = {
    "no key to come back by": (
        CONTEXT.format(
            shop='@context(name: "shop")',
            offer="",
            rate="",
            argument='a: Int @fromContext(field: "$shop { rate }")',
        ),
        {"CONTEXT_NO_RESOLVABLE_KEY"},
    ),
    "a name with an underscore": (
        'type A @context(name: "a_b") { x: Int }',
        {"CONTEXT_NAME_INVALID"},
    ),
    "an empty name": ('type A @context(name: "") { x: Int }', {"CONTEXT_NAME_INVALID"}),
    "on an interface's field": (
        'type A @context(name: "c") { x: Int }'
        ' interface I @key(fields: "y") { y(a: Int @fromContext(field: "$c { x }")): Int }',
        {"CONTEXT_NOT_SET", "KEY_FIELDS_HAS_ARGS"},
    ),
    "on a directive": (
        'type A @context(name: "c") { x: Int }'
        ' directive @d(a: Int @fromContext(field: "$c { x }")) on FIELD',
        {"CONTEXT_NOT_SET"},
    ),
}


@pytest.mark.parametrize("name", CONTEXT_PLACES)
def test_places_of_contexts(name: str) -> None:
    sdl, expected = CONTEXT_PLACES[name]
    assert codes(sdl) == expected
