"""Field sets: what `@key`, `@requires` and `@provides` may select."""

import pytest

from gateway.federation.composition.loading import load

LINK = (
    'extend schema @link(url: "https://specs.apollo.dev/federation/{}",'
    ' import: ["@key", "@requires", "@provides", "@external", "@tag", "@extends"])\n'
)
OFFER = """
type Query { offer: Offer }
type Offer KEY {
  id: ID! no: Int tags(first: Int): [String!] of(x: Int!): Int names: [String]
  price: Price shop: Shop thing: Thing
}
type Price { amount: Int currency: String }
interface Shop { name: String }
type Store implements Shop { name: String }
union Thing = Store | Price
"""


def codes(sdl: str, version: str = "v2.5") -> set[str]:
    return {error.code for error in load("offers", "", LINK.format(version) + sdl)[1]}


KEYS = {
    "a field": ('"id"', ""),
    "fields": ('"id no"', ""),
    "a field twice": ('"id id"', ""),
    "a nested field": ('"id price { amount }"', ""),
    "a list": ('"names"', ""),
    "braces around": ('"{ id }"', ""),
    "the type's name": ('"__typename id"', ""),
    "a fragment": ('"... on Offer { id }"', ""),
    "a fragment without a type": ('"... { id }"', ""),
    "a fragment on nothing known": ('"... on Gift { id }"', ""),
    "a list of texts": ('["id"]', "INVALID_FIELDS_TYPE"),
    "no text": ("id", "INVALID_FIELDS_TYPE"),
    "a number": ("1", "INVALID_FIELDS_TYPE"),
    "null": ("null", "INVALID_FIELDS_TYPE"),
    "nothing": ('""', "INVALID_FIELDS"),
    "a brace too many": ('"id {"', "INVALID_FIELDS"),
    "two selections": ('"id } { no"', "INVALID_FIELDS"),
    "an unknown field": ('"id name"', "INVALID_FIELDS"),
    "an alias": ('"a: id"', "INVALID_FIELDS"),
    "a spread": ('"...F"', "INVALID_FIELDS"),
    "a variable": ('"id $a"', "INVALID_FIELDS"),
    "an object with nothing of it": ('"price"', "INVALID_FIELDS"),
    "something of a number": ('"no { x }"', "INVALID_FIELDS"),
    "an unknown directive": ('"id @foo"', "INVALID_FIELDS"),
    "a field of another type": ('"... on Price { amount }"', "INVALID_FIELDS"),
    "an argument unknown": ('"id(x: 1)"', "INVALID_FIELDS"),
    "an argument missing": ('"of"', "INVALID_FIELDS"),
    "an argument of another type": ('"tags(first: true)"', "INVALID_FIELDS"),
    "a field with arguments": ('"tags"', "FIELDS_HAS_ARGS"),
    "a field given arguments": ('"tags(first: 1)"', "FIELDS_HAS_ARGS"),
    "a directive": ('"id @include(if: true)"', "DIRECTIVE_IN_FIELDS_ARG"),
    "a directive on a fragment": ('"... @include(if: true) { id }"', "DIRECTIVE_IN_FIELDS_ARG"),
    "a union": ('"thing { ... on Price { amount } }"', "FIELDS_SELECT_INVALID_TYPE"),
    "an interface": ('"shop { name }"', "FIELDS_SELECT_INVALID_TYPE"),
    "an interface, and a mistake after it": ('"shop { name } x"', "FIELDS_SELECT_INVALID_TYPE"),
    "a field with arguments, and a mistake": ('"tags x"', "INVALID_FIELDS"),
}


@pytest.mark.parametrize("name", KEYS)
def test_keys(name: str) -> None:
    fields, code = KEYS[name]
    sdl = OFFER.replace("KEY", f"@key(fields: {fields})")
    assert codes(sdl) == ({f"KEY_{code}"} if code else set())


def test_two_mistakes_that_can_be_told_together() -> None:
    sdl = OFFER.replace("KEY", '@key(fields: "id @include(if: true) tags")')
    assert codes(sdl) == {"KEY_DIRECTIVE_IN_FIELDS_ARG", "KEY_FIELDS_HAS_ARGS"}


NEEDS = """
type Query {{ offer: Offer }}
type Offer @key(fields: "id") {{
  id: ID! rate: Int @external cents(of: String): Int @external
  price: Price {price} total: Int @requires(fields: {fields})
}}
type Price {{ amount: Int {amount} currency: String }}
"""
UNUSED = {"EXTERNAL_UNUSED"}
REQUIRES = {
    "an external field": ('"rate cents"', "", "", set[str]()),
    "one with an argument": ('"rate cents(of: \\"x\\")"', "", "", set()),
    "below an external field": ('"rate cents price { amount }"', "@external", "", set()),
    "an external field below": ('"rate cents price { amount }"', "", "@external", set()),
    "below nothing external": (
        '"rate cents price { amount }"',
        "",
        "",
        {"REQUIRES_FIELDS_MISSING_EXTERNAL"},
    ),
    "a field of its own": ('"rate cents id"', "", "", {"REQUIRES_FIELDS_MISSING_EXTERNAL"}),
    "the type's name": (
        '"rate cents __typename"',
        "",
        "",
        {"REQUIRES_FIELDS_MISSING_EXTERNAL"},
    ),
    "an unknown field": ('"rate cents foo"', "", "", {"REQUIRES_INVALID_FIELDS"}),
    "an alias": ('"rate c: cents"', "", "", {"REQUIRES_INVALID_FIELDS"}),
    "a variable": ('"rate cents(of: $of)"', "", "", {"REQUIRES_INVALID_FIELDS"}),
    "a directive": (
        '"rate cents @skip(if: true)"',
        "",
        "",
        {"REQUIRES_DIRECTIVE_IN_FIELDS_ARG"},
    ),
    "a list": ('["rate"]', "", "", {"REQUIRES_INVALID_FIELDS_TYPE"} | UNUSED),
    "no syntax": ('"rate {"', "", "", {"REQUIRES_INVALID_FIELDS"} | UNUSED),
    "less than is external": ('"rate"', "", "", UNUSED),
}


@pytest.mark.parametrize("name", REQUIRES)
def test_requires(name: str) -> None:
    fields, price, amount, expected = REQUIRES[name]
    assert codes(NEEDS.format(fields=fields, price=price, amount=amount)) == expected


GIVES = """
type Query {{ offer: Offer best: {type} @provides(fields: {fields}) }}
type Offer @key(fields: "id") {{ id: ID! rate: Int @external tags(a: Int): Int price: Price }}
type Price {{ amount: Int currency: String }}
interface Any {{ rate: Int }}
type Some implements Any {{ rate: Int @external }}
union Either = Offer | Price
enum Kind {{ A }}
"""
PROVIDES = {
    "an external field": ("Offer", '"rate"', set[str]()),
    "in a list": ("[Offer!]!", '"rate"', set()),
    "of a union's member": ("Either", '"... on Offer { rate }"', set()),
    "of a union": ("Either", '"rate"', {"PROVIDES_INVALID_FIELDS"} | UNUSED),
    "of an interface": ("Any", '"rate"', {"PROVIDES_FIELDS_MISSING_EXTERNAL"} | UNUSED),
    "a field of its own": ("Offer", '"rate id"', {"PROVIDES_FIELDS_MISSING_EXTERNAL"}),
    "a field with arguments": (
        "Offer",
        '"rate tags"',
        {"PROVIDES_FIELDS_HAS_ARGS", "PROVIDES_FIELDS_MISSING_EXTERNAL"},
    ),
    "a directive": ("Offer", '"rate @skip(if: true)"', {"PROVIDES_DIRECTIVE_IN_FIELDS_ARG"}),
    "no text": ("Offer", "rate", {"PROVIDES_INVALID_FIELDS_TYPE"} | UNUSED),
    "of a number": ("Int", '"rate"', {"PROVIDES_ON_NON_OBJECT_FIELD"}),
    "of an enum": ("Kind", '"rate"', {"PROVIDES_ON_NON_OBJECT_FIELD"}),
}


@pytest.mark.parametrize("name", PROVIDES)
def test_provides(name: str) -> None:
    type_, fields, expected = PROVIDES[name]
    sdl = GIVES.format(type=type_, fields=fields)
    if not expected & {"PROVIDES_FIELDS_MISSING_EXTERNAL"} or type_ != "Any":
        sdl = sdl.replace("{ rate: Int @external }", "{ rate: Int @external }")
    assert codes(sdl) == expected


INTERFACES = {
    "a key": ("v2.3", 'interface I @key(fields: "id") { id: ID }', set[str]()),
    "a key, too early": (
        "v2.2",
        'interface I @key(fields: "id") { id: ID }',
        {"KEY_UNSUPPORTED_ON_INTERFACE"},
    ),
    "a key its type lacks": (
        "v2.3",
        'interface I @key(fields: "id") { id: ID } type A implements I { id: ID }',
        {"INTERFACE_KEY_NOT_ON_IMPLEMENTATION"},
    ),
    "a key in another order": (
        "v2.3",
        'interface I @key(fields: "a b") { a: ID b: ID }'
        ' type A implements I @key(fields: "b  a") { a: ID b: ID }',
        set(),
    ),
    "a key its type does not resolve": (
        "v2.3",
        'interface I @key(fields: "id") { id: ID }'
        ' type A implements I @key(fields: "id", resolvable: false) { id: ID }',
        {"INTERFACE_KEY_NOT_ON_IMPLEMENTATION"},
    ),
    "a key that nobody resolves": (
        "v2.3",
        'interface I @key(fields: "id", resolvable: false) { id: ID }'
        ' type A implements I @key(fields: "id", resolvable: false) { id: ID }',
        set(),
    ),
    "a requirement": (
        "v2.3",
        'interface I { a: Int b: Int @requires(fields: "a") }',
        {"REQUIRES_UNSUPPORTED_ON_INTERFACE", "REQUIRES_FIELDS_MISSING_EXTERNAL"},
    ),
    "a provision": (
        "v2.3",
        'interface I { a: A @provides(fields: "b") } type A { b: Int @external }',
        {"PROVIDES_UNSUPPORTED_ON_INTERFACE"},
    ),
}


@pytest.mark.parametrize("name", INTERFACES)
def test_interfaces(name: str) -> None:
    version, sdl, expected = INTERFACES[name]
    assert codes(sdl + " type Query { a: Int }", version) == expected


EXTENSIONS = {
    "a key marked external": (
        'extend type Offer @key(fields: "id") { id: ID! @external }',
        set[str](),
    ),
    "required": (
        'extend type Offer @key(fields: "id") { id: ID! @external a: Int @requires(fields: "id") }',
        {"REQUIRES_FIELDS_MISSING_EXTERNAL"},
    ),
    "required, extended by directive": (
        'type Offer @extends @key(fields: "id")'
        ' { id: ID! @external a: Int @requires(fields: "id") }',
        {"REQUIRES_FIELDS_MISSING_EXTERNAL"},
    ),
    "more that is external": (
        'extend type Offer @key(fields: "id") { id: ID! @external a: Int @external }',
        UNUSED,
    ),
}


@pytest.mark.parametrize("name", EXTENSIONS)
def test_extensions_resolve_their_keys(name: str) -> None:
    sdl, expected = EXTENSIONS[name]
    assert codes(sdl + " type Query { a: Int }") == expected
