"""`@link`: its forms, its mistakes, and what a document calls what it imports."""

import pytest

from gateway.federation.composition.loading import load

SPEC = "https://specs.apollo.dev"
FED = f"{SPEC}/federation"
USAGE = "INVALID_LINK_DIRECTIVE_USAGE"
IDENTIFIER = "INVALID_LINK_IDENTIFIER"
QUERY = "type Query { offers: Int }"


def link(arguments: str, rest: str = "") -> str:
    return f'extend schema @link(url: "{FED}/v2.5", {arguments}) {rest}'


def links(*urls: str) -> str:
    return "extend schema " + " ".join(f'@link(url: "{url}")' for url in urls)


def codes(sdl: str) -> set[str]:
    subgraph, errors = load("offers", "http://offers", sdl)
    assert (subgraph is None) == bool(errors)
    assert all(error.subgraphs == ("offers",) for error in errors)
    return {error.code for error in errors}


VERSIONS = {
    "the first": ("v2.0", set[str]()),
    "the newest": ("v2.14", set()),
    "one too new": ("v2.15", {"UNKNOWN_FEDERATION_LINK_VERSION"}),
    "version one": ("v1.0", {"UNKNOWN_FEDERATION_LINK_VERSION"}),
    "no minor version": ("v2", {IDENTIFIER}),
    "no v": ("2.0", {IDENTIFIER}),
    "a patch version": ("v2.3.1", {IDENTIFIER}),
    "a slash after it": ("v2.3/", {IDENTIFIER}),
    "a query after it": ("v2.3?a=b#c", set()),
}


@pytest.mark.parametrize("name", VERSIONS)
def test_versions_of_federation(name: str) -> None:
    version, expected = VERSIONS[name]
    assert codes(f"{links(f'{FED}/{version}')} {QUERY}") == expected


IMPORTS = {
    "renamed": ('import: [{name: "@shareable", as: "@shared"}]', set[str]()),
    "not renamed, in an object": ('import: [{name: "@shareable"}]', set()),
    "twice the same": ('import: ["@key", "@key"]', set()),
    "a type": ('import: ["FieldSet"]', set()),
    "nothing": ("import: []", set()),
    "null": ("import: null", set()),
    "no list": ('import: "@key"', {USAGE}),
    "a number": ("import: [1]", {USAGE}),
    "a list": ("import: [[]]", {USAGE}),
    "an object without name": ('import: [{as: "@shareable"}]', {USAGE}),
    "an object with more": ('import: [{name: "@key", foo: "@k"}]', {USAGE}),
    "a name that is no text": ('import: [{name: "@key", as: 1}]', {USAGE}),
    "a name that is none": ('import: [{name: "@key", as: "@1"}]', {USAGE}),
    "a directive called like a type": ('import: [{name: "@key", as: "key"}]', {USAGE}),
    "a type called like a directive": ('import: [{name: "FieldSet", as: "@set"}]', {USAGE}),
    "a directive without its sign": ('import: ["key"]', {USAGE}),
    "an unknown directive": ('import: ["@kye"]', {USAGE}),
    "an unknown type": ('import: ["Fields"]', {USAGE}),
    "a directive of a later version": ('import: ["@cost"]', {USAGE}),
    "two under one name": ('import: ["@key", {name: "@tag", as: "@key"}]', {USAGE}),
    "one under two names": (
        'import: [{name: "@key", as: "@a"}, {name: "@key", as: "@b"}]',
        {USAGE},
    ),
    "a name that looks prefixed": (
        'import: [{name: "@key", as: "@federation__tag"}]',
        {USAGE},
    ),
    "a name that looks prefixed by nothing": ('import: [{name: "@key", as: "@a__b"}]', set()),
    "the name of the spec": ('import: [{name: "@key", as: "@federation"}]', {USAGE}),
    "the name of links": ('import: [{name: "@key", as: "@link"}]', {USAGE}),
    "a reserved name": ('import: [{name: "@key", as: "@__k"}]', {"INVALID_GRAPHQL"}),
    "a name of GraphQL's own": (
        'import: [{name: "@key", as: "@deprecated"}]',
        {"DIRECTIVE_DEFINITION_INVALID"},
    ),
    "a prefix": ('as: "fed"', set()),
    "no prefix": ("as: null", set()),
    "a prefix that ends in an underscore": ('as: "fed_"', {USAGE}),
    "a prefix with two underscores": ('as: "fed__x"', {USAGE}),
    "a prefix that is no name": ('as: "1fed"', {USAGE}),
    "an empty prefix": ('as: ""', {USAGE}),
    "a purpose": ("for: SECURITY", set()),
    "an unknown purpose": ("for: FUN", {"INVALID_GRAPHQL"}),
    "an unknown argument": ("foo: 1", {"INVALID_GRAPHQL"}),
}


@pytest.mark.parametrize("name", IMPORTS)
def test_arguments(name: str) -> None:
    arguments, expected = IMPORTS[name]
    assert codes(f"{link(arguments)} {QUERY}") == expected


OTHERS = {
    "another spec": (("https://example.com/prices/v1.0",), set[str]()),
    "no version": (("https://example.com/prices",), {IDENTIFIER}),
    "no name": (("https://example.com/v1.0",), {IDENTIFIER}),
    "no path": (("https://example.com",), {IDENTIFIER}),
    "a version that is none": (("https://example.com/prices/1.0",), {IDENTIFIER}),
    "a name no prefix can be made of": (("https://example.com/a__b/v1.0",), {USAGE}),
    "a dash in the name": (("https://example.com/a-b/v1.0",), set()),
    "federation once more": ((f"{FED}/v2.0",), {USAGE}),
    "two of one name": (
        ("https://a.example/prices/v1.0", "https://b.example/prices/v1.0"),
        {USAGE},
    ),
    "the link spec": ((f"{SPEC}/link/v1.0",), set()),
}


@pytest.mark.parametrize("name", OTHERS)
def test_links_beside_federation(name: str) -> None:
    urls, expected = OTHERS[name]
    assert codes(f"{links(f'{FED}/v2.5', *urls)} {QUERY}") == expected


NAMED = {
    "imported": (link('import: ["@shareable"]'), "@shareable", set[str]()),
    "renamed": (link('import: [{name: "@shareable", as: "@shared"}]'), "@shared", set()),
    "renamed, by its old name": (
        link('import: [{name: "@shareable", as: "@shared"}]'),
        "@shareable",
        {"INVALID_GRAPHQL"},
    ),
    "prefixed": (links(f"{FED}/v2.5"), "@federation__shareable", set()),
    "imported, yet prefixed": (
        link('import: ["@shareable"]'),
        "@federation__shareable",
        {"INVALID_GRAPHQL"},
    ),
    "by another prefix": (link('as: "fed"'), "@fed__shareable", set()),
    "by the prefix it has not": (link('as: "fed"'), "@federation__shareable", {"INVALID_GRAPHQL"}),
    "not imported": (links(f"{FED}/v2.5"), "@shareable", {"INVALID_GRAPHQL"}),
    "without federation": ("", "@shareable", {"INVALID_GRAPHQL"}),
    "of no spec": (links("https://example.com/prices/v1.0"), "@prices", {"INVALID_GRAPHQL"}),
    "of a spec of one directive": (
        links(f"{FED}/v2.5", f"{SPEC}/tag/v0.3"),
        '@tag(name: "a")',
        set(),
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_names_of_directives(name: str) -> None:
    schema, directive, expected = NAMED[name]
    assert codes(f"{schema} type Query {{ offers: Int {directive} }}") == expected


def test_what_a_document_calls_a_directive_does_not_matter_afterwards() -> None:
    subgraph, _ = load(
        "offers",
        "http://offers",
        f"""
        schema @link(url: "{SPEC}/link/v1.0")
          @link(url: "{FED}/v2.3", as: "f", import: [{{name: "@key", as: "@id"}}])
        {{ query: Root }}
        type Root {{ offer: Offer @f__shareable }}
        type Offer @id(fields: "no") {{ no: ID! }}
        """,
    )
    assert subgraph is not None
    assert (subgraph.version, subgraph.query) == ((2, 3), "Root")
    assert [key.name for key in subgraph.types["Offer"].directives] == ["key"]
    assert subgraph.types["Root"].fields["offer"].shareable
    assert subgraph.types["Offer"].fields["no"].shareable


def test_connectors_are_refused_by_name() -> None:
    schema = (
        f'extend schema @link(url: "{FED}/v2.10")'
        f' @link(url: "{SPEC}/connect/v0.1", import: ["@connect", "@source"])'
    )
    assert codes(f"{schema} {QUERY}") == set()
    assert codes(f'{schema} @source(name: "prices") {QUERY}') == {"UNSUPPORTED_FEATURE"}


def test_a_later_link_spec() -> None:
    assert codes(f"{links(f'{SPEC}/link/v1.1')} {QUERY}") == {"UNKNOWN_LINK_VERSION"}


def test_links_are_judged_before_all_else() -> None:
    assert codes(f"{link('import: [1]')} type Query {{ offers: Unknown }}") == {USAGE}


def test_where_the_link_spec_is_linked_references_are_judged_before_imports() -> None:
    schema = (
        f'extend schema @link(url: "{SPEC}/link/v1.0") @link(url: "{FED}/v2.0", import: ["@x"])'
    )
    assert codes(f"{schema} type Query {{ offers: Unknown }}") == {"INVALID_GRAPHQL"}
    assert codes(f"{schema} {QUERY}") == {USAGE}
