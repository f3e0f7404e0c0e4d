"""`@inaccessible`: what is left for clients must still be a schema."""

import pytest

from tests.unit.federation.composition.federations import codes

RULES = {
    "a visible field of a hidden type": (
        "REFERENCED_INACCESSIBLE",
        "type Query { a: Secret } type Secret @inaccessible { n: Int }",
    ),
    "a visible argument of a hidden type": (
        "REFERENCED_INACCESSIBLE",
        "type Query { a(i: Secret): Int } input Secret @inaccessible { n: Int }",
    ),
    "a directive with an argument of a hidden type": (
        "REFERENCED_INACCESSIBLE",
        "directive @as(k: Kind) on FIELD type Query { n: Int } enum Kind @inaccessible { A }",
    ),
    "hidden from visible to visible": (
        None,
        "type Query { n: Int a: Secret @inaccessible } type Secret @inaccessible { n: Secret }",
    ),
    "all fields hidden": (
        "ONLY_INACCESSIBLE_CHILDREN",
        "type Query { a: Thing } type Thing { n: Int @inaccessible }",
    ),
    "all values hidden": (
        "ONLY_INACCESSIBLE_CHILDREN",
        "type Query { a: Kind } enum Kind { A @inaccessible B @inaccessible }",
    ),
    "all members hidden": (
        "ONLY_INACCESSIBLE_CHILDREN",
        "type Query { a: Any } union Any = Thing type Thing @inaccessible { n: Int }",
    ),
    "the root": ("QUERY_ROOT_TYPE_INACCESSIBLE", "type Query @inaccessible { n: Int }"),
    "another root": (None, "type Query { n: Int } type Mutation @inaccessible { n: Int }"),
    "a required argument": (
        "REQUIRED_INACCESSIBLE",
        "type Query { a(n: Int! @inaccessible): Int }",
    ),
    "an argument with a default": (None, "type Query { a(n: Int! = 1 @inaccessible): Int }"),
    "a required input field": (
        "REQUIRED_INACCESSIBLE",
        "type Query { a(i: In): Int } input In { n: Int! @inaccessible m: Int }",
    ),
    "an implementation of a visible field": (
        "IMPLEMENTED_BY_INACCESSIBLE",
        """type Query { a: Named } interface Named { n: Int m: Int }
        type Thing implements Named { n: Int @inaccessible m: Int }""",
    ),
    "an implementation of a hidden field": (
        None,
        """type Query { a: Named } interface Named { n: Int @inaccessible m: Int }
        type Thing implements Named { n: Int @inaccessible m: Int }""",
    ),
    "a value in a default": (
        "DEFAULT_VALUE_USES_INACCESSIBLE",
        "type Query { a(k: [Kind!] = [B, A]): Int } enum Kind { A @inaccessible B }",
    ),
    "an input field deep in a default": (
        "DEFAULT_VALUE_USES_INACCESSIBLE",
        """type Query { a(i: In = {in: {n: 1}}): Int }
        input In { in: In n: Int @inaccessible }""",
    ),
    "a value in a hidden default": (
        None,
        "type Query { a(k: Kind = A @inaccessible): Int } enum Kind { A @inaccessible B }",
    ),
    "a type of a composed spec": (
        "DISALLOWED_INACCESSIBLE",
        """extend schema @link(url: "https://acme.example/paint/v1.0", import: ["@paint"])
          @composeDirective(name: "@paint")
        directive @paint(in: paint__Colour) on OBJECT
        enum paint__Colour @inaccessible { RED }
        type Query { n: Int }""",
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_rule(name: str) -> None:
    code, sdl = RULES[name]
    found = codes(f"--- one\nuse 2.3 inaccessible composeDirective\n{sdl}")
    assert found == ({code} if code else set())
