"""Satisfiability: every field can be had from wherever a query may lead."""

import pytest

from gateway.federation.composition import CompositionFailed, compose
from tests.unit.federation.composition.federations import codes, hints, subgraphs

USE = "use 2.9 key requires provides external shareable override inaccessible interfaceObject"


def federation(*sdl: str) -> str:
    names = ("apples", "books", "cars", "dogs")
    return "\n".join(f"--- {name}\n{USE}\n{text}" for name, text in zip(names, sdl, strict=False))


UNREACHABLE = {"SATISFIABILITY_ERROR"}
CASES: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "by a key": (
        (
            'type Query { a: A } type A @key(fields: "id") { id: ID }',
            'type A @key(fields: "id") { id: ID z: Int }',
        ),
        set(),
    ),
    "by a key the other has not": (
        (
            'type Query { a: A } type A @key(fields: "id") { id: ID }',
            'type A @key(fields: "no") { no: ID z: Int }',
        ),
        UNREACHABLE,
    ),
    "by the other's key, without one here": (
        (
            "type Query { a: A } type A { id: ID @shareable }",
            'type A @key(fields: "id") { id: ID z: Int }',
        ),
        set(),
    ),
    "by no key": (
        ("type Query { a: A } type A { x: Int }", "type A { z: Int }"),
        UNREACHABLE,
    ),
    "by a key that cannot be resolved": (
        (
            'type Query { a: A } type A @key(fields: "id") { id: ID }',
            'type A @key(fields: "id", resolvable: false) { id: ID z: Int }',
        ),
        UNREACHABLE,
    ),
    "over a third": (
        (
            'type Query { a: A } type A @key(fields: "id") { id: ID }',
            'type A @key(fields: "id") @key(fields: "no") { id: ID no: ID }',
            'type A @key(fields: "no") { no: ID z: Int }',
        ),
        set(),
    ),
    "over a third that cannot be asked": (
        (
            'type Query { a: A } type A @key(fields: "id") { id: ID }',
            'type A @key(fields: "id", resolvable: false) @key(fields: "no") { id: ID no: ID }',
            'type A @key(fields: "no") { no: ID z: Int }',
        ),
        UNREACHABLE,
    ),
    "from both that share a field": (
        (
            "type Query { a: A @shareable } type A { x: Int }",
            "type Query { a: A @shareable } type A { z: Int }",
        ),
        set(),
    ),
    "but not from the one that has a field alone": (
        (
            "type Query { a: A @shareable } type A { x: Int }",
            "type Query { a: A @shareable b: A } type A { z: Int }",
        ),
        UNREACHABLE,
    ),
    "a key made of two places": (
        (
            "type Query { a: A @shareable } type A { id: ID @shareable }",
            "type Query { a: A @shareable } type A { no: ID @shareable }",
            'type A @key(fields: "id no") { id: ID no: ID z: Int }',
        ),
        UNREACHABLE,
    ),
    "a nested key": (
        (
            "type Query { a: A } type A { b: B @shareable } type B @shareable { id: ID }",
            'type A @key(fields: "b { id }") { b: B z: Int } type B @shareable { id: ID }',
        ),
        set(),
    ),
    "a requirement": (
        (
            'type Query { a: A } type A @key(fields: "id") { id: ID x: Int }',
            'type A @key(fields: "id") { id: ID x: Int @external z: Int @requires(fields: "x") }',
        ),
        set(),
    ),
    "a requirement that cannot be had back": (
        (
            'type Query { a: A } type A @key(fields: "id", resolvable: false) { id: ID x: Int }',
            'type A @key(fields: "id") { id: ID x: Int @external z: Int @requires(fields: "x") }',
        ),
        UNREACHABLE,
    ),
    "a requirement of an object no key leads back to": (
        (
            'type Query { q: Int } type A @key(fields: "id") { id: ID x: Int }',
            "type Query { a: A } type A"
            ' { id: ID @shareable x: Int @external z: Int @requires(fields: "x") }',
        ),
        UNREACHABLE,
    ),
    "one whose key leads back, though not to others": (
        (
            'type Query { q: Int } type A @key(fields: "id") { id: ID x: Int }',
            'type Query { a: A } type A @key(fields: "id", resolvable: false)'
            ' { id: ID x: Int @external z: Int @requires(fields: "x") }',
        ),
        set(),
    ),
    "a chain of requirements": (
        (
            'type Query { a: A } type A @key(fields: "id")'
            ' { id: ID x: Int @external z: Int @requires(fields: "x") }',
            'type A @key(fields: "id") { id: ID y: Int @external x: Int @requires(fields: "y") }',
            'type A @key(fields: "id") { id: ID y: Int }',
        ),
        set(),
    ),
    "requirements in a circle": (
        (
            'type Query { a: A } type A @key(fields: "id")'
            ' { id: ID x: Int @external z: Int @requires(fields: "x") }',
            'type A @key(fields: "id") { id: ID z: Int @external x: Int @requires(fields: "z") }',
        ),
        UNREACHABLE,
    ),
    "below a mutation": (
        (
            "type Query { q: Int } type Mutation { a: A } type A { id: ID @shareable }",
            'type A @key(fields: "no") { no: ID z: Int }',
        ),
        UNREACHABLE,
    ),
    "a member of a union": (
        (
            "type Query { u: U } union U = A | B type A { id: ID @shareable } type B { x: Int }",
            'type A @key(fields: "no") { no: ID z: Int }',
        ),
        UNREACHABLE,
    ),
    "what is hidden need not be had": (
        (
            "type Query { a: A } type A { x: Int }",
            "type A { z: Int @inaccessible }",
        ),
        set(),
    ),
    "back at the root": (
        ("type Query { a: A } type A { x: Int query: Query }", "type Query { z: Int }"),
        set(),
    ),
    "an interface object that learns its type": (
        (
            'type Query { q: Int } interface I @key(fields: "id") { id: ID }'
            ' type A implements I @key(fields: "id") { id: ID x: Int }',
            'type Query { i: I } type I @interfaceObject @key(fields: "id") { id: ID z: Int }',
        ),
        set(),
    ),
    "an interface object that never learns it": (
        (
            "type Query { q: Int } interface I { id: ID }"
            ' type A implements I @key(fields: "id") { id: ID x: Int }',
            'type Query { i: I } type I @interfaceObject @key(fields: "id") { id: ID }',
        ),
        UNREACHABLE,
    ),
    "an overridden field, label or not": (
        (
            'type Query { a: A } type A @key(fields: "id") { id: ID x: Int }',
            'type A @key(fields: "id") { id: ID x: Int @override(from: "apples", label: "l") }',
        ),
        set(),
    ),
    "an overridden field, with its label only": (
        (
            'type Query { a: A } type A @key(fields: "id") { id: ID x: Int }',
            'type Query { b: A } type A @key(fields: "id", resolvable: false)'
            ' { id: ID x: Int @override(from: "apples", label: "l") }',
        ),
        UNREACHABLE,
    ),
    "shared fields with nothing in common": (
        (
            "type Query { i: I @shareable } interface I { x: Int } type A implements I { x: Int }",
            "type Query { i: I @shareable } interface I { x: Int } type B implements I { x: Int }",
        ),
        {"SHAREABLE_HAS_MISMATCHED_RUNTIME_TYPES"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_codes(name: str) -> None:
    sdl, expected = CASES[name]
    assert codes(federation(*sdl)) == expected


def test_the_unreachable_path_is_shown() -> None:
    text = federation(
        "type Query { shelf(no: Int!): [A!]! } type A { id: ID @shareable }",
        'type A @key(fields: "isbn") { isbn: ID! }',
    )
    with pytest.raises(CompositionFailed) as failed:
        compose(subgraphs(text))
    (error,) = failed.value.errors
    assert error.subgraphs == ("apples",)
    assert error.message == (
        "The following supergraph API query:\n"
        "{\n  shelf(no: 0) {\n    isbn\n  }\n}\n"
        "cannot be satisfied by the subgraphs because:\n"
        '- from subgraph "apples":\n'
        '  - cannot find field "A.isbn".\n'
        '  - cannot move to subgraph "books" using @key(fields: "isbn") of "A",'
        ' the key field(s) cannot be resolved from subgraph "apples".'
    )


def test_shared_fields_with_some_types_in_common_are_hinted_at() -> None:
    interface = "type Query { i: I @shareable } interface I { x: Int }"
    text = federation(
        interface + " type A implements I @shareable { x: Int } type B implements I { x: Int }",
        interface + " type A implements I @shareable { x: Int }",
    )
    assert "INCONSISTENT_RUNTIME_TYPES_FOR_SHAREABLE_RETURN" in hints(text)
