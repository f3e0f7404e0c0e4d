"""What does not merge, by code. Each federation is right but for one thing."""

import pytest

from tests.unit.federation.composition.federations import codes

REFUSED = {
    "INVALID_FIELD_SHARING": """
        --- one
        use 2.3
        type Query { n: Int }
        --- two
        use 2.3
        type Query { n: Int }
        """,
    "TYPE_KIND_MISMATCH": """
        --- one
        use 2.3
        type Query { n: Int }
        type Kind { n: Int }
        --- two
        use 2.3
        input Kind { n: Int }
        """,
    "FIELD_TYPE_MISMATCH": """
        --- one
        use 2.3 shareable
        type Query { n: Int @shareable }
        --- two
        use 2.3 shareable
        type Query { n: String @shareable }
        """,
    "FIELD_ARGUMENT_TYPE_MISMATCH": """
        --- one
        use 2.3 shareable
        type Query { n(a: Int): Int @shareable }
        --- two
        use 2.3 shareable
        type Query { n(a: String): Int @shareable }
        """,
    "FIELD_ARGUMENT_DEFAULT_MISMATCH": """
        --- one
        use 2.3 shareable
        type Query { n(a: Int = 1): Int @shareable }
        --- two
        use 2.3 shareable
        type Query { n(a: Int = 2): Int @shareable }
        """,
    "INPUT_FIELD_DEFAULT_MISMATCH": """
        --- one
        use 2.3
        type Query { n(i: In): Int }
        input In { a: Int = 1 }
        --- two
        use 2.3
        input In { a: Int = 2 }
        """,
    "REQUIRED_ARGUMENT_MISSING_IN_SOME_SUBGRAPH": """
        --- one
        use 2.3 shareable
        type Query { n(a: Int!): Int @shareable }
        --- two
        use 2.3 shareable
        type Query { n: Int @shareable }
        """,
    "REQUIRED_INPUT_FIELD_MISSING_IN_SOME_SUBGRAPH": """
        --- one
        use 2.3
        type Query { n(i: In): Int }
        input In { a: Int! b: Int }
        --- two
        use 2.3
        input In { b: Int }
        """,
    "EMPTY_MERGED_INPUT_TYPE": """
        --- one
        use 2.3
        type Query { n(i: In): Int }
        input In { a: Int }
        --- two
        use 2.3
        input In { b: Int }
        """,
    "EMPTY_MERGED_ENUM_TYPE": """
        --- one
        use 2.3
        type Query { n(e: Mode): Int }
        enum Mode { ON }
        --- two
        use 2.3
        enum Mode { OFF }
        """,
    "ENUM_VALUE_MISMATCH": """
        --- one
        use 2.3
        type Query { n(e: Mode): Mode }
        enum Mode { ON }
        --- two
        use 2.3
        enum Mode { ON OFF }
        """,
    "EXTERNAL_MISSING_ON_BASE": """
        --- one
        use 2.3 key external requires
        type Query { t: Thing }
        type Thing @key(fields: "id") { id: ID! a: Int @external b: Int @requires(fields: "a") }
        """,
    "EXTERNAL_TYPE_MISMATCH": """
        --- one
        use 2.3 key external requires
        type Query { t: Thing }
        type Thing @key(fields: "id") { id: ID! a: Int @external b: Int @requires(fields: "a") }
        --- two
        use 2.3 key
        type Thing @key(fields: "id") { id: ID! a: Float }
        """,
    "EXTERNAL_ARGUMENT_MISSING": """
        --- one
        use 2.3 key external requires
        type Query { t: Thing }
        type Thing @key(fields: "id") { id: ID! a: Int @external b: Int @requires(fields: "a") }
        --- two
        use 2.3 key
        type Thing @key(fields: "id") { id: ID! a(n: Int): Int }
        """,
    "EXTERNAL_ARGUMENT_TYPE_MISMATCH": """
        --- one
        use 2.3 key external requires
        type Query { t: Thing }
        type Thing @key(fields: "id") {
          id: ID! a(n: ID): Int @external b: Int @requires(fields: "a")
        }
        --- two
        use 2.3 key
        type Thing @key(fields: "id") { id: ID! a(n: Int): Int }
        """,
    "EXTERNAL_ARGUMENT_DEFAULT_MISMATCH": """
        --- one
        use 2.3 key external requires
        type Query { t: Thing }
        type Thing @key(fields: "id") {
          id: ID! a(n: Int = 1): Int @external b: Int @requires(fields: "a")
        }
        --- two
        use 2.3 key
        type Thing @key(fields: "id") { id: ID! a(n: Int): Int }
        """,
    "MERGED_DIRECTIVE_APPLICATION_ON_EXTERNAL": """
        --- one
        use 2.3 key external requires tag
        type Query { t: Thing }
        type Thing @key(fields: "id") {
          id: ID! a: Int @external @tag(name: "x") b: Int @requires(fields: "a")
        }
        --- two
        use 2.3 key
        type Thing @key(fields: "id") { id: ID! a: Int }
        """,
    "REQUIRES_INVALID_FIELDS": """
        --- one
        use 2.3 key external requires
        type Query { t: Thing }
        type Thing @key(fields: "id") {
          id: ID! a(n: Int): Int @external b: Int @requires(fields: "a(n: 1)")
        }
        --- three
        use 2.3 key shareable
        type Thing @key(fields: "id") { id: ID! a(n: Int): Int @shareable }
        --- two
        use 2.3 key shareable
        type Thing @key(fields: "id") { id: ID! a: Int @shareable }
        """,
    "INTERFACE_FIELD_NO_IMPLEM": """
        --- one
        use 2.3
        type Query { n: Named }
        interface Named { name: String }
        type Person implements Named { name: String }
        --- two
        use 2.3
        interface Named { nick: String }
        """,
    "INVALID_GRAPHQL": """
        --- one
        use 2.3 shareable
        type Query { n: Named }
        interface Named { name(short: Boolean): String }
        type Person implements Named @shareable { name(short: Boolean): String }
        --- two
        use 2.3 shareable
        type Person @shareable { name: String }
        """,
    "INTERFACE_KEY_MISSING_IMPLEMENTATION_TYPE": """
        --- one
        use 2.3 key
        type Query { n: Named }
        interface Named @key(fields: "id") { id: ID! }
        type Person implements Named @key(fields: "id") { id: ID! }
        --- two
        use 2.3 key
        interface Named { id: ID! }
        type Animal implements Named @key(fields: "id") { id: ID! }
        """,
    "INTERFACE_OBJECT_USAGE_ERROR": """
        --- one
        use 2.3 key
        type Query { n: Named }
        interface Named @key(fields: "id") { id: ID! }
        type Person implements Named @key(fields: "id") { id: ID! }
        --- two
        use 2.3 key interfaceObject
        type Named @interfaceObject @key(fields: "id") { id: ID! age: Int }
        type Person @key(fields: "id") { id: ID! }
        """,
    "EXTENSION_WITH_NO_BASE": """
        --- one
        use 2.3
        type Query { t: Thing }
        extend type Thing { a: Int }
        """,
    "NO_QUERIES": """
        --- one
        use 2.3
        type Thing { a: Int }
        """,
    "INVALID_SUBGRAPH_NAME": """
        --- _
        use 2.3
        type Query { a: Int }
        """,
    "SHAREABLE_HAS_MISMATCHED_RUNTIME_TYPES": """
        --- one
        use 2.3 shareable
        type Query { any: Any @shareable }
        union Any = Left
        type Left { a: Int }
        --- two
        use 2.3 shareable
        type Query { any: Any @shareable }
        union Any = Right
        type Right { a: Int }
        """,
    "SATISFIABILITY_ERROR": """
        --- one
        use 2.3 shareable
        type Query { t: Thing }
        type Thing @shareable { a: Int }
        --- two
        use 2.3 shareable
        type Thing @shareable { a: Int b: Int }
        """,
    "CONTEXTUAL_ARGUMENT_NOT_CONTEXTUAL_IN_ALL_SUBGRAPHS": """
        --- one
        use 2.8 key context fromContext shareable
        type Query { t: Thing }
        type Thing @key(fields: "id") @context(name: "c") { id: ID! unit: String! part: Part }
        type Part @key(fields: "id") {
          id: ID! size(unit: String @fromContext(field: "$c { unit }")): Int @shareable
        }
        --- two
        use 2.8 key shareable
        type Part @key(fields: "id") { id: ID! size(unit: String!): Int @shareable }
        """,
}


@pytest.mark.parametrize("code", REFUSED)
def test_refused(code: str) -> None:
    assert codes(REFUSED[code]) == {code}


def test_all_errors_of_a_stage_are_reported_together() -> None:
    federation = """
        --- one
        use 2.3 shareable
        type Query { a: Int b: Int @shareable }
        --- two
        use 2.3 shareable
        type Query { a: Int b: String @shareable }
        """
    assert codes(federation) == {"INVALID_FIELD_SHARING", "FIELD_TYPE_MISMATCH"}


def test_errors_of_subgraphs_come_before_errors_between_them() -> None:
    federation = """
        --- one
        use 2.3 key
        type Query { a: Int }
        type Thing @key(fields: "nothing") { id: ID! }
        --- two
        use 2.3
        type Query { a: Int }
        """
    assert codes(federation) == {"KEY_INVALID_FIELDS"}


def test_a_root_field_of_subscriptions_is_resolved_in_one_place() -> None:
    federation = """
        --- one
        use 2.3 shareable
        type Query { a: Int }
        type Subscription { tick: Int @shareable }
        """
    assert codes(federation) == {"INVALID_FIELD_SHARING"}
