"""The rule of merging says what graphql-core's says, and does so in little time."""

import time

import pytest
from graphql import (
    NoFragmentCyclesRule,
    OverlappingFieldsCanBeMergedRule,
    build_schema,
    parse,
    validate,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.federation.overlap import OverlappingFields

SCHEMA = build_schema("""
interface Animal { name: String, friend: Animal, kin: [Animal!], mood(at: Int, of: Mood): String }
input Mood { a: Int b: Int }
type Cat implements Animal {
  name: String, friend: Animal, kin: [Animal!], mood(at: Int, of: Mood): String
  lives: Int, mine: Cat, size: String!
}
type Dog implements Animal {
  name: String, friend: Animal, kin: [Animal!], mood(at: Int, of: Mood): String
  lives: String, mine: Dog, size: Int
}
type Bone { lives: Int, size: [String], mine: Animal }
union Thing = Cat | Dog | Bone
type Query { animal: Animal, thing: Thing, cat: Cat, name: String }
""")
TYPES = ["Animal", "Cat", "Dog", "Bone", "Thing", "Query"]
LEAVES = ["name", "lives", "size", "mood", "mood(at: 1)", "mood(at: 2)", "__typename"]
LEAVES += ["mood(of: {a: 1, b: 2})", "mood(of: {b: 2, a: 1})", "mood(at: 1, of: {})"]
INNER = ["friend", "kin", "mine", "animal", "thing", "cat"]
ALIASES = ["", "", "", "x: ", "name: ", "lives: ", "friend: "]


def selections(depth: int) -> st.SearchStrategy[str]:
    leaf = st.builds(lambda a, f: a + f, st.sampled_from(ALIASES), st.sampled_from(LEAVES))
    spread = st.sampled_from([f"...F{n}" for n in range(3)])
    one = leaf | spread
    if depth:
        inner = selections(depth - 1)
        field = st.builds(
            lambda a, f, s: f"{a}{f} {{ {s} }}",
            st.sampled_from(ALIASES), st.sampled_from(INNER), inner,
        )  # fmt: skip
        fragment = st.builds(
            lambda t, s: f"... {f'on {t} ' if t else ''}{{ {s} }}",
            st.sampled_from([*TYPES, None]), inner,
        )  # fmt: skip
        one = leaf | spread | field | field | fragment | fragment
    return st.lists(one, min_size=1, max_size=4).map(" ".join)


documents = st.builds(
    lambda root, bodies, types: (
        f"{{ {root} }} "
        + " ".join(
            f"fragment F{n} on {kind} {{ {body} }}"
            for n, (kind, body) in enumerate(zip(types, bodies, strict=True))
        )
    ),
    selections(3),
    st.tuples(*[selections(2)] * 3),
    st.tuples(*[st.sampled_from(TYPES)] * 3),
)


@settings(max_examples=400, deadline=None)
@given(documents)
def test_the_verdict_is_graphql_cores(text):
    spreading = text + " query All { name ...F0 ...F1 ...F2 }"
    document = parse(spreading.replace("{", "query A {", 1))
    # A fragment that spreads itself is another rule's; what meets in it is not defined.
    if validate(SCHEMA, document, [NoFragmentCyclesRule]):
        return
    own = validate(SCHEMA, document, [OverlappingFields])
    theirs = validate(SCHEMA, document, [OverlappingFieldsCanBeMergedRule])
    assert bool(own) == bool(theirs), (own, theirs)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{ cat { x: name x: lives } }", "'name' and 'lives' are different fields"),
        ("{ cat { mood(at: 1) mood(at: 2) } }", "they have differing arguments"),
        ("{ cat { mood mood(at: 2) } }", "they have differing arguments"),
        (
            "{ thing { ... on Cat { lives } ... on Dog { lives } } }",
            "they return conflicting types 'Int' and 'String'",
        ),
        (
            "{ thing { ... on Cat { size } ... on Bone { size } } }",
            "they return conflicting types 'String!' and '[String]'",
        ),
        ("{ animal { friend { x: name } ...F } } fragment F on Animal { friend { x: __typename } }",
         "are different fields"),
    ],
)  # fmt: skip
def test_a_conflict_names_what_conflicts(text, reason):
    (error,) = validate(SCHEMA, parse(text), [OverlappingFields])
    assert reason in error.message
    assert len(error.nodes or ()) == 2


@pytest.mark.parametrize(
    "text",
    [
        "{ cat { name name x: mood(of: {a: 1, b: 2}) x: mood(of: {b: 2, a: 1}) } }",
        "{ thing { ... on Cat { x: name } ... on Dog { x: mood(at: 1) } } }",
        "{ animal { ... on Cat { mine { name } } ... on Dog { mine { name: mood } } } }",
    ],
)
def test_what_can_never_meet_or_is_the_same_may_stand(text):
    assert validate(SCHEMA, parse(text), [OverlappingFields]) == []


@pytest.mark.parametrize("count", [50, 400])
def test_many_fields_that_meet_take_little_time(count):
    same = "{ animal {" + "".join(f"...F{n} " for n in range(count)) + "} }"
    same += "".join(
        f"fragment F{n} on Animal {{ friend {{ friend {{ name }} kin {{ name }} }} }}"
        for n in range(count)
    )
    began = time.process_time()
    assert validate(SCHEMA, parse(same), [OverlappingFields]) == []
    assert time.process_time() - began < 0.02 * count


def test_what_meets_in_ever_new_sets_has_an_end():
    width, levels = 10, 14
    text = "{ animal {" + " ".join(f"...F0x{n}" for n in range(width)) + "} }"
    for level in range(levels):
        for n in range(width):
            a, b, c = ((n * k + k + level) % width for k in (3, 5, 7))
            text += (
                f" fragment F{level}x{n} on Animal {{ friend {{ ...F{level + 1}x{a} }}"
                f" kin {{ ...F{level + 1}x{b} ...F{level + 1}x{c} }} }}"
            )
    text += "".join(f" fragment F{levels}x{n} on Animal {{ name }}" for n in range(width))
    began = time.process_time()
    validate(SCHEMA, parse(text), [OverlappingFields])
    assert time.process_time() - began < 5
