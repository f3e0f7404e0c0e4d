"""`@composeDirective`, the directives composed without it, and the links of both."""

import pytest

from tests.unit.federation.composition.federations import codes, definition, hints, supergraph

PAINT = """
    --- one
    use 2.3 composeDirective
    extend schema @link(url: "https://acme.example/paint/v1.0", import: ["@paint"])
      @composeDirective(name: "@paint")
    directive @paint(in: Colour = RED) on OBJECT
    enum Colour { RED BLUE }
    type Query @paint(in: BLUE) { a: Int }
    --- two
    use 2.3 composeDirective
    extend schema @link(url: "https://acme.example/paint/vVERSION", import: [IMPORT]) REST
    type Query @NAME(in: RED) { b: Int }
    """


def paint(version: str = "1.0", imported: str = '"@paint"', name: str = "paint") -> str:
    rest = f'@composeDirective(name: "@{name}")\n'
    rest += f"directive @{name}(in: Colour = RED) repeatable on OBJECT enum Colour {{ RED BLUE }}"
    text = PAINT.replace("VERSION", version).replace("IMPORT", imported)
    return text.replace("REST", rest).replace("NAME", name)


def test_the_newest_definition_counts_for_all() -> None:
    sdl = supergraph(paint(version="1.2"))
    assert '@link(url: "https://acme.example/paint/v1.2", import: ["@paint"])' in sdl
    assert definition(sdl, "@paint") == ("directive @paint(in: Colour = RED) repeatable on OBJECT")
    assert "  @paint(in: BLUE)\n  @paint(in: RED)" in definition(sdl, "Query")


REFUSED = {
    "another major version": paint(version="2.0"),
    "another spec under one name": paint().replace("paint/v1.0", "brush/v1.0", 1),
    "without its at sign": paint().replace('name: "@paint"', 'name: "paint"', 1),
    "unknown": paint().replace('name: "@paint"', 'name: "@pait"', 1),
    "of no spec": """
        --- one
        use 2.3 composeDirective
        extend schema @composeDirective(name: "@own")
        directive @own on OBJECT
        type Query { a: Int }
        """,
    "of federation": """
        --- one
        use 2.3 composeDirective key
        extend schema @composeDirective(name: "@key")
        type Query { a: Int }
        """,
    "under two names": paint(imported='{name: "@paint", as: "@dye"}', name="dye"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    assert codes(REFUSED[name]) == {"DIRECTIVE_COMPOSITION_ERROR"}


def test_asking_for_what_is_composed_anyway_is_hinted() -> None:
    federation = """
        --- one
        use 2.3 composeDirective tag
        extend schema @composeDirective(name: "@tag")
        type Query { a: Int @tag(name: "x") }
        """
    assert hints(federation) == {"DIRECTIVE_COMPOSITION_INFO"}


def test_a_directive_applied_under_two_names_is_refused() -> None:
    federation = """
        --- one
        use 2.3 tag
        type Query { a: Int @tag(name: "x") }
        --- two
        use 2.3
        type Query { b: Int @federation__tag(name: "x") }
        """
    assert codes(federation) == {"LINK_IMPORT_NAME_MISMATCH"}


def test_a_renamed_directive_keeps_its_name() -> None:
    sdl = supergraph(
        """
        --- one
        extend schema @link(
          url: "https://specs.apollo.dev/federation/v2.3", import: [{name: "@tag", as: "@mark"}]
        )
        type Query { a: Int @mark(name: "x") }
        """
    )
    assert 'import: [{name: "@tag", as: "@mark"}]' in sdl
    assert '  a: Int @mark(name: "x")' in sdl


MERGED = {
    "tags unite": ('@tag(name: "x")', '@tag(name: "y")', '@tag(name: "x") @tag(name: "y")'),
    "the greatest cost": ("@cost(weight: 3)", "@cost(weight: 7)", "@cost(weight: 7)"),
    "the greatest list": (
        '@listSize(assumedSize: 3, slicingArguments: ["n"])',
        "@listSize(assumedSize: 5, requireOneSlicingArgument: false)",
        '@listSize(assumedSize: 5, slicingArguments: ["n"], requireOneSlicingArgument: false)',
    ),
    "both conditions": (
        '@policy(policies: [["a"], ["b", "c"]])',
        '@policy(policies: [["d"]])',
        '@policy(policies: [["a", "d"], ["b", "c", "d"]])',
    ),
    "conditions implied by others go": (
        '@requiresScopes(scopes: [["a"], ["b"]])',
        '@requiresScopes(scopes: [["a"]])',
        '@requiresScopes(scopes: [["a"]])',
    ),
    "the reason given first": (
        '@deprecated(reason: "one")',
        '@deprecated(reason: "two")',
        '@deprecated(reason: "one")',
    ),
}


@pytest.mark.parametrize("name", MERGED)
def test_applications_merge(name: str) -> None:
    left, right, merged = MERGED[name]
    names = "shareable tag cost listSize policy requiresScopes"
    sdl = supergraph(
        f"""
        --- one
        use 2.9 {names}
        type Query {{ list(n: Int): [Int] @shareable {left} }}
        --- two
        use 2.9 {names}
        type Query {{ list(n: Int): [Int] @shareable {right} }}
        """
    )
    assert f"  list(n: Int): [Int] {merged}" in sdl


def test_what_cannot_be_composed_ends_composition() -> None:
    federation = """
        --- one
        use 2.3 composeDirective
        extend schema @composeDirective(name: "paint")
        type Query { a: Int }
        --- two
        use 2.3
        type Query { a: String }
        """
    assert codes(federation) == {"DIRECTIVE_COMPOSITION_ERROR"}


def test_a_composed_directive_must_fit_the_definition_that_counts() -> None:
    federation = paint(version="1.2").replace("RED) repeatable on OBJECT", "RED) on SCALAR")
    assert codes(federation) >= {"INVALID_GRAPHQL"}
