"""What is no GraphQL is refused as that, and alone; where composition is lenient it stays so."""

import pytest

from gateway.federation.composition.loading import load

LINK = (
    'extend schema @link(url: "https://specs.apollo.dev/federation/v2.5",'
    ' import: ["@key", "@external"])\n'
)
QUERY = " type Query { offers: Int }"


def codes(sdl: str) -> set[str]:
    return {error.code for error in load("offers", "", LINK + sdl)[1]}


INVALID = {
    "syntax": "type Query { offers: Int",
    "an operation": "{ offers }" + QUERY,
    "a fragment": "fragment F on Query { offers }" + QUERY,
    "an unknown type": "type Query { offers: Offer }",
    "an unknown type of an argument": "type Query { offers(page: Page): Int }",
    "an unknown type of a directive's argument": "directive @d(a: A) on FIELD" + QUERY,
    "an input as an output": "input I { a: Int } type Query { offers: I }",
    "an output as an input": "type O { a: Int } type Query { offers(o: O): Int }",
    "a type twice": "type Query { offers: Int } type Query { prices: Int }",
    "a field twice": "type Query { offers: Int offers: Int }",
    "a field twice, in an extension": "type Query { a: Int } extend type Query { a: Int }",
    "an input field twice": "input I { a: Int a: Int }" + QUERY,
    "a directive twice": "directive @d on FIELD directive @d on FIELD" + QUERY,
    "a union member twice": "type A { x: Int } union U = A | A" + QUERY,
    "a union of a scalar": "union U = Int" + QUERY,
    "a union of an interface": "interface I { x: Int } union U = I" + QUERY,
    "a union of nothing known": "union U = A" + QUERY,
    "an unknown interface": "type A implements I { x: Int }" + QUERY,
    "an object as an interface": "type B { x: Int } type A implements B { x: Int }" + QUERY,
    "an interface twice": "interface I { x: Int } type A implements I & I { x: Int }" + QUERY,
    "an interface's field missing": "interface I { x: Int } type A implements I { y: Int }" + QUERY,
    "an interface's field otherwise": "interface I { x: Int } type A implements I { x: ID }"
    + QUERY,
    "an interface's argument missing": (
        "interface I { x(a: Int): Int } type A implements I { x: Int }" + QUERY
    ),
    "an interface's argument otherwise": (
        "interface I { x(a: Int): Int } type A implements I { x(a: Int!): Int }" + QUERY
    ),
    "a required argument more": (
        "interface I { x: Int } type A implements I { x(a: Int!): Int }" + QUERY
    ),
    "an interface's interface missing": (
        "interface I { x: Int } interface J implements I { x: Int }"
        " type A implements J { x: Int }" + QUERY
    ),
    "an interface of itself": "interface I implements I { x: Int }" + QUERY,
    "interfaces in a circle": (
        "interface I implements J { x: Int } interface J implements I { x: Int }" + QUERY
    ),
    "an empty object": "type A" + QUERY,
    "an empty mutation": "type Mutation" + QUERY,
    "an empty enum": "enum E" + QUERY,
    "an empty input": "input I" + QUERY,
    "an empty union": "union U" + QUERY,
    "a reserved type": "type __A { x: Int }" + QUERY,
    "a reserved field": "type A { __x: Int }" + QUERY,
    "a reserved argument": "type A { x(__a: Int): Int }" + QUERY,
    "a reserved enum value": "enum E { __A }" + QUERY,
    "a reserved directive": "directive @__d on FIELD" + QUERY,
    "an unknown directive": "type Query { offers: Int @d }",
    "a directive in the wrong place": "type Query @deprecated { offers: Int }",
    "a directive twice in one place": "type Query { offers: Int @deprecated @deprecated }",
    "an unknown argument of a directive": "type Query { offers: Int @deprecated(why: 1) }",
    "a wrong argument of a directive": "type Query { offers: Int @deprecated(reason: 1) }",
    "a missing argument of a directive": "type A @key { id: ID }" + QUERY,
    "a default of another type": 'type Query { offers(a: Int = "a"): Int }',
    "null for what is not null": "type Query { offers(a: Int! = null): Int }",
    "an unknown enum value": "enum E { A } type Query { offers(a: E = B): Int }",
    "an unknown field in a default": "input I { x: Int } type Query { a(i: I = {y: 1}): Int }",
    "a required argument that is deprecated": "type Query { offers(a: Int! @deprecated): Int }",
    "an input that needs itself": "input I { i: I! }" + QUERY,
    "inputs that need one another": "input I { j: J! } input J { i: I! }" + QUERY,
    "an unknown root": "schema { query: Root }",
    "a root that is no object": "schema { query: E } enum E { A }",
    "one type as two roots": "schema { query: Q mutation: Q } type Q { offers: Int }",
    "a built-in scalar as an object": "type String { x: Int }" + QUERY,
}


@pytest.mark.parametrize("name", INVALID)
def test_refused_alone(name: str) -> None:
    beside = ' type Beside @key(fields: "nothing") { x: Int @external }'
    assert codes(INVALID[name]) == {"INVALID_GRAPHQL"}
    assert codes(INVALID[name] + beside) == {"INVALID_GRAPHQL"}


VALID = {
    "an extension without a base": "extend type Query { offers: Int }",
    "two extensions": "extend type Query { offers: Int } extend type Query { prices: Int }",
    "a schema of extensions": "extend schema { query: Root } type Root { offers: Int }",
    "an empty query": "type Query",
    "an enum value as text": 'enum E { A } type Query { offers(a: E = "A"): Int }',
    "an item for a list": "type Query { offers(a: [Int] = 1): Int }",
    "an integer for a float": "type Query { offers(a: Float = 1): Int }",
    "an integer for an ID": "type Query { offers(a: ID = 1): Int }",
    "a large integer": "type Query { offers(a: Int = 99999999999): Int }",
    "anything for a scalar": "scalar S type Query { offers(a: S = {b: [1]}): Int }",
    "null for a required argument of a directive": (
        "directive @d(a: Int!) on FIELD_DEFINITION type Query { offers: Int @d(a: null) }"
    ),
    "a narrower interface field": ("interface I { x: I } type A implements I { x: A! }" + QUERY),
    "an input in a list of itself": "input I { i: [I!]! }" + QUERY,
    "a built-in scalar": "scalar Int" + QUERY,
    "a built-in directive": "directive @skip(if: Boolean!) on FIELD" + QUERY,
}


@pytest.mark.parametrize("name", VALID)
def test_accepted(name: str) -> None:
    assert codes(VALID[name]) == set()
