"""Definitions that a document makes of what federation defines: they must agree with the spec."""

import pytest

from gateway.federation.composition.loading import load

LINK = 'extend schema @link(url: "https://specs.apollo.dev/federation/{}", import: ["@key"])'
QUERY = "type Query { offers: Int }"
SET = "scalar federation__FieldSet"
WRONG = {"DIRECTIVE_DEFINITION_INVALID"}
RIGHT = set[str]()


def codes(sdl: str) -> set[str]:
    return {error.code for error in load("offers", "", sdl)[1]}


SECOND = {
    "as it is": (f"@key(fields: federation__FieldSet!) repeatable on OBJECT {SET}", RIGHT),
    "strings for sets": ("@key(fields: String!) repeatable on OBJECT", RIGHT),
    "not repeatable": ("@key(fields: String!) on OBJECT | INTERFACE", RIGHT),
    "with its default": ("@key(fields: String!, resolvable: Boolean = true) on OBJECT", RIGHT),
    "stricter": ("@key(fields: String!, resolvable: Boolean! = true) on OBJECT", RIGHT),
    "another default": ("@key(fields: String!, resolvable: Boolean = false) on OBJECT", WRONG),
    "no default": ("@key(fields: String!, resolvable: Boolean) on OBJECT", WRONG),
    "nullable": ("@key(fields: String) on OBJECT", WRONG),
    "a scalar of another name": ("@key(fields: FieldSet!) on OBJECT scalar FieldSet", WRONG),
    "an argument missing": ("@key on OBJECT", WRONG),
    "an argument more": ("@key(fields: String!, foo: Int) on OBJECT", WRONG),
    "a place more": ("@key(fields: String!) on OBJECT | UNION", WRONG),
    "repeatable though it is not": (
        "@federation__requires(fields: String!) repeatable on FIELD",
        WRONG,
    ),
    "a scalar of a later list": (
        "@federation__policy(policies: [[String!]!]!) on OBJECT",
        RIGHT,
    ),
    "a list too few": ("@federation__policy(policies: [String!]!) on OBJECT", WRONG),
    "an own directive with a prefix": ("@federation__ours on FIELD", RIGHT),
    "a name that is not imported": ("@shareable(ours: Int) on QUERY", RIGHT),
}


@pytest.mark.parametrize("name", SECOND)
def test_directives(name: str) -> None:
    text, expected = SECOND[name]
    assert codes(f"{LINK.format('v2.9')} directive {text} {QUERY}") == expected


USED = {
    "in a place less": ("directive @key(fields: String!) on OBJECT", "interface I KEY { x: Int }"),
    "once only": ("directive @key(fields: String!) on OBJECT", "type A KEY KEY { x: Int }"),
    "once, extensions and all": (
        "directive @key(fields: String!) on OBJECT",
        "type A KEY { x: Int } extend type A KEY",
    ),
    "with an argument less": (
        "directive @key(fields: String!) on OBJECT",
        'type A @key(fields: "x", resolvable: false) { x: Int }',
    ),
}


@pytest.mark.parametrize("name", USED)
def test_a_document_keeps_to_its_own_definitions(name: str) -> None:
    definition, use = USED[name]
    use = use.replace("KEY", '@key(fields: "x")')
    assert codes(f"{LINK.format('v2.9')} {definition} {use} {QUERY}") == {"INVALID_GRAPHQL"}
    assert codes(f"{definition} {use} {QUERY}") == {"INVALID_GRAPHQL"}


BY_VERSION = {
    "shareable repeats since 2.2": ("@federation__shareable repeatable on OBJECT", "v2.1", "v2.2"),
    "tags on schemas since 2.3": (
        "@federation__tag(name: String!) repeatable on SCHEMA",
        "v2.2",
        "v2.3",
    ),
    "labels since 2.7": (
        "@federation__override(from: String!, label: String) on FIELD_DEFINITION",
        "v2.6",
        "v2.7",
    ),
}


@pytest.mark.parametrize("name", BY_VERSION)
def test_what_later_versions_added(name: str) -> None:
    text, before, since = BY_VERSION[name]
    assert codes(f"{LINK.format(before)} directive {text} {QUERY}") == WRONG
    assert codes(f"{LINK.format(since)} directive {text} {QUERY}") == RIGHT


FIRST = {
    "the set's scalar": ("directive @key(fields: _FieldSet!) on OBJECT scalar _FieldSet", RIGHT),
    "nullable": ("directive @key(fields: String) on OBJECT", RIGHT),
    "a scalar of another name": (
        "directive @key(fields: FieldSet!) on OBJECT scalar FieldSet",
        WRONG,
    ),
    "a list of strings": ("directive @requires(fields: [String!]) on FIELD_DEFINITION", WRONG),
    "an argument more": ("directive @extends(a: Int) on OBJECT", WRONG),
    "a directive of version two": ("directive @shareable on OBJECT", RIGHT),
    "a directive of version two, otherwise": ("directive @shareable(x: Int) on OBJECT", WRONG),
    "a later one is the document's own": ("directive @cost(x: Int) on OBJECT", RIGHT),
    "the scalar as an object": ("type _FieldSet { x: Int }", {"TYPE_DEFINITION_INVALID"}),
    "entities as the library prints them": (
        'scalar _Any union _Entity = A type A @key(fields: "id") { id: ID }'
        " type _Service { sdl: String }",
        RIGHT,
    ),
}


@pytest.mark.parametrize("name", FIRST)
def test_documents_of_version_one(name: str) -> None:
    text, expected = FIRST[name]
    assert codes(f"{text} {QUERY}") == expected


TYPES = {
    "a scalar": ("scalar federation__FieldSet", RIGHT),
    "no scalar": ("type federation__FieldSet { x: Int }", {"TYPE_DEFINITION_INVALID"}),
    "purposes": ("enum link__Purpose { EXECUTION SECURITY }", RIGHT),
    "a purpose missing": ("enum link__Purpose { SECURITY }", {"TYPE_DEFINITION_INVALID"}),
}


@pytest.mark.parametrize("name", TYPES)
def test_types(name: str) -> None:
    text, expected = TYPES[name]
    assert codes(f"{LINK.format('v2.0')} {text} {QUERY}") == expected


def test_the_machinery_is_no_part_of_the_subgraph() -> None:
    subgraph, _ = load(
        "offers",
        "",
        """
        directive @key(fields: _FieldSet!) repeatable on OBJECT | INTERFACE
        directive @ours on FIELD
        scalar _FieldSet
        scalar _Any
        union _Entity = Offer
        type _Service { sdl: String }
        type Query { _entities(representations: [_Any!]!): [_Entity]! _service: _Service! o: Offer }
        type Offer @key(fields: "id") { id: ID! }
        """,
    )
    assert subgraph is not None
    assert set(subgraph.types) == {"Query", "Offer"}
    assert set(subgraph.directives) == {"ours"}
    assert set(subgraph.types["Query"].fields) == {"o"}
