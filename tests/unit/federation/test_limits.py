"""No document costs much to refuse: every measure is taken in one pass that has a bound."""

import time

import pytest
from graphql import GraphQLSyntaxError, OperationDefinitionNode, build_schema, parse

from gateway.federation.limits import Limits, Meter, TooExpensive, check_shape, read
from gateway.federation.validation import validated

SCHEMA = build_schema("""
type Query { a: Query b: Query x: Int y(i: Int): Int all(first: Int): [Query!]! }
type Mutation { m: Int }
""")
LOOSE = Limits(depth=None, aliases=None, directives=None, duplicates=None, fields=None)


def shape(text: str, **limits: int | None) -> None:
    check_shape(read(text, Limits()), schema=SCHEMA, limits=Limits(**limits))


def chain(length: int, spread: str) -> str:
    """Fragments that each spread the next in `spread`."""
    made = "{ ...F0 }"
    for number in range(length):
        inner = spread.replace("NEXT", f"...F{number + 1}")
        made += f" fragment F{number} on Query {{ {inner} }}"
    return made + f" fragment F{length} on Query {{ x }}"


@pytest.mark.parametrize(
    ("text", "measure"),
    [
        ("{" + "a {" * 51 + "x" + "}" * 51 + "}", "depth"),
        ("{" + " ".join(f"k{n}: x" for n in range(201)) + "}", "aliases"),
        ("{ x " + "@include(if: true) " * 201 + "}", "directives"),
        ("{" + "x " * 102 + "}", "duplicates"),
        ("{ a { ... { " + "x " * 51 + "} ... {" + "x " * 52 + "} } }", "duplicates"),
        ("{" + " ".join(f"k{n}: __schema {{ types {{ name }} }}" for n in range(11)) + "}",
         "introspection"),
        (chain(3, 'k: __type(name: "Query") { name } NEXT NEXT NEXT'), "introspection"),
        (chain(13, "a { NEXT } b { NEXT }"), "fields"),
        (" ".join(f"query Q{n} {{ x }}" for n in range(101)), "operations"),
        (chain(40, "a { NEXT NEXT }"), "fields"),
        ("{ __schema { types { ...T0 } } }" + "".join(
            f" fragment T{n} on __Type {{ a: ofType {{ ...T{n + 1} }} b: ofType {{ ...T{n + 1} }}}}"
            for n in range(14)
        ) + " fragment T14 on __Type { name }", "fields"),
    ],
)  # fmt: skip
def test_each_measure_has_its_limit(text, measure):
    with pytest.raises(TooExpensive) as refused:
        shape(text, aliases=200 if measure == "aliases" else None)
    assert refused.value.measure == measure
    assert refused.value.asked > refused.value.limit


def test_what_is_just_within_the_limits_passes():
    shape("{" + "a {" * 49 + "x" + "}" * 49 + "}")
    shape("{" + " ".join(f"k{n}: x" for n in range(200)) + "}")
    shape("{" + "x " * 101 + "}")


def test_a_limit_can_be_taken_away():
    check_shape(read("{" + "x " * 500 + "}", LOOSE), schema=SCHEMA, limits=LOOSE)


@pytest.mark.parametrize(
    "text",
    [
        chain(25, "NEXT NEXT"),
        chain(300, "NEXT NEXT"),
        chain(300, "a { NEXT } b { NEXT }"),
        chain(300, "a { NEXT NEXT } ... { b { NEXT } NEXT }"),
        "{" + "x " * 4_900 + "}",
        "{" + "y(i: 1) " * 1_600 + "}",
        "{" + "a { b { " * 100 + "x" + "} }" * 100 + "}",
        "{ x " + "@skip(if: true) " * 1_600 + "}",
        " ".join(f"query Q{n} {{ ...F0 }}" for n in range(500)) + chain(300, "NEXT")[9:],
        "{" + " ".join(f"f{n}" for n in range(4_900)) + "}",
    ],
    ids=range(10),
)  # fmt: skip
def test_bombs_are_refused_or_validated_in_little_time(text):
    began = time.process_time()
    try:
        document = read(text, Limits())
        check_shape(document, schema=SCHEMA, limits=Limits())
        validated(SCHEMA, document)
    except (TooExpensive, GraphQLSyntaxError):
        pass
    assert time.process_time() - began < 5


def test_measuring_is_linear_in_the_document():
    def seconds(length: int) -> float:
        document = parse("{" + "a { x } " * length + "}")
        began = time.process_time()
        for _ in range(5):
            check_shape(document, schema=SCHEMA, limits=LOOSE)
        return time.process_time() - began

    seconds(100)
    assert seconds(2_000) < 40 * max(seconds(200), 0.001)


def cost(text: str, **variables: object) -> int:
    document = parse(text)
    operation = document.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    return Meter(SCHEMA, document, operation, variables).require(Limits(cost=1_000))


def test_cost_multiplies_by_pages_written_or_by_variable():
    assert cost("{ all(first: 7) { a { x } } }") == 8
    assert cost("query($n: Int) { all(first: $n) { a { x } } }", n=7) == 8
    assert cost("mutation { m }") == 10
    with pytest.raises(TooExpensive, match="cost"):
        cost("query($n: Int) { all(first: $n) { a { x } } }", n=5_000)
    with pytest.raises(TooExpensive, match="cost"):
        cost("{ all(first: " + "9" * 5_000 + ") { a { x } } }")
