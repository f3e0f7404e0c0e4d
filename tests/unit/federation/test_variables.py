"""The compiled check of variables says what graphql-core says, and forwards what was sent."""

from typing import Any

import pytest
from graphql import OperationDefinitionNode, build_schema, get_variable_values, parse
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.federation.variables import Uncoercible, Variables

SCHEMA = build_schema("""
scalar Any
enum Colour { RED GREEN }
input Inner { colour: Colour! size: Int = 3 deep: Inner names: [String!] }
input Either @oneOf { a: Int b: Inner }
type Query {
  f(i: Int, f: Float, s: String, b: Boolean, id: ID, any: Any, c: Colour, o: Inner, e: Either,
    l: [Int!], ll: [[Int]!], r: Int!): Int
}
""")
TYPES = [
    "Int", "Float", "String", "Boolean", "ID", "Any", "Colour", "Inner", "Either", "[Int!]",
    "[[Int]!]", "Int!", "[Colour!]!", "[Inner!]", "Inner!", "Either!",
]  # fmt: skip

plain: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, -1, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**53, 2**60])
    | st.floats(allow_nan=False)
    | st.sampled_from(["RED", "GREEN", "BLUE", "", "1", "x"])
)
names = st.sampled_from(["colour", "size", "deep", "names", "a", "b", "other"])
anything = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)


def compiled(kind: str, default: str = "") -> tuple[Variables, OperationDefinitionNode]:
    operation = parse(f"query($v: {kind}{default}) {{ __typename }}").definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    return Variables(SCHEMA, operation.variable_definitions or ()), operation


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(TYPES), anything)
@example("[Inner!]", [[], *[{"a": None, "b": None, "other": None, "size": False}] * 2])
def test_the_verdict_is_graphql_cores(kind, value):
    """Of a value with many errors the first ten are told, as of graphql-core with that limit."""
    variables, operation = compiled(kind)
    definitions = operation.variable_definitions or ()
    found = get_variable_values(
        SCHEMA, definitions, {"v": value}, max_errors=10, hide_suggestions=True
    )
    try:
        read = variables.read({"v": value, "stray": 1})
    except Uncoercible as refused:
        assert isinstance(found, list)
        assert [error.message for error in refused.errors] == [error.message for error in found]
    else:
        assert not isinstance(found, list)
        assert read == {"v": value}


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(TYPES), anything)
def test_what_fits_never_asks_graphql_core(kind, value):
    """The fast check takes everything that needs no coercion; it is no way round."""
    variables, operation = compiled(kind)
    found = get_variable_values(SCHEMA, operation.variable_definitions or (), {"v": value})
    fits = variables._checks[0][1](value)
    assert not (fits and isinstance(found, list))


def test_defaults_are_applied_and_absent_stays_absent():
    variables, _ = compiled("Inner", ' = {colour: RED, names: ["a"]}')
    assert variables.read({}) == {"v": {"colour": "RED", "names": ["a"]}}
    assert variables.read({"v": None}) == {"v": None}
    variables, _ = compiled("Int")
    assert variables.read({}) == {}


def test_missing_and_null_are_refused_where_a_value_is_needed():
    variables, _ = compiled("Int!")
    for values in ({}, {"v": None}):
        with pytest.raises(Uncoercible, match="Variable '\\$v'"):
            variables.read(values)
    variables, _ = compiled("Int!", " = 5")
    assert variables.read({}) == {"v": 5}
    with pytest.raises(Uncoercible):
        variables.read({"v": None})


def test_nesting_without_end_is_refused():
    value: Any = {"colour": "RED"}
    for _ in range(5_000):
        value = {"colour": "RED", "deep": value}
    variables, _ = compiled("Inner")
    with pytest.raises(Uncoercible):
        variables.read({"v": value})


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        ("Float", "1e999"),
        ("Any", "9" * 10_000),
        ("Any", "{a: [1e999]}"),
        ("[Float]", "[1, -1e999]"),
    ],
)
def test_a_default_that_json_cannot_hold_is_refused_where_it_would_be_sent(kind, default):
    variables, _ = compiled(kind, f" = {default}")
    with pytest.raises(Uncoercible, match=r"\$v"):
        variables.read({})
    assert variables.read({"v": None}) == {"v": None}
