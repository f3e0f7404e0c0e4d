"""A document becomes one form: the same for all ways to write it, bounded whatever is written."""

import time

import pytest
from graphql import build_schema, parse, validate

from gateway.federation.errors import OperationTooLarge
from gateway.federation.normalise import condition_variables, normalise
from gateway.federation.operation import Field, Fragment, Operation

SCHEMA = build_schema(
    """
    interface Node { id: ID! }
    interface Named implements Node { id: ID! name: String }
    type User implements Node & Named {
      id: ID! name: String friend: User posts(first: Int): [Post]
    }
    type Post implements Node { id: ID! author: User title: String }
    type Robot implements Node & Named { id: ID! name: String model: String }
    union Thing = User | Post
    type Query { user(id: ID = "1"): User node: Node named: Named thing: Thing a: Query b: Query }
    type Mutation { rename(name: String!): User }
    """
)


PAIR = build_schema(
    """
    interface Reel { next: Reel id: ID! }
    type Film implements Reel { next: Reel id: ID! }
    type Clip implements Reel { next: Reel id: ID! }
    type Query { reel: Reel }
    """
)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (  # A film's next has the keys id, b, __typename.
            "next{id} ...on Film{next{b:id}} next{__typename}",
            "next {id} ... on Film {next {b: id}} next {__typename}",
        ),
        (
            "next{id} ...F next{b:id} next{__typename}",
            "next {id} ... on Film {next {c: id}} next {b: id __typename}",
        ),
        (
            "...on Film{next{b:id}} next{id} ...on Clip{id} next{c:id}",
            "... on Film {next {b: id}} next {id c: id} ... on Clip {id}",
        ),
        (
            "...on Film{id} ...on Film{next{b:id}} next{id} next{c:id}",
            "... on Film {id next {b: id}} next {id c: id}",
        ),
        ("id next{id} ...on Film{id n:next{id}} id next{c:id}", None),
    ],
)
def test_fields_are_one_unless_that_would_change_the_order_of_keys(
    written: str, expected: str | None
) -> None:
    fragment = " fragment F on Reel{...on Film{next{c:id}}}" if "...F" in written else ""
    document = parse(f"{{reel{{{written}}}}}{fragment}")
    text = normalise(PAIR, document, None, {}).text
    if expected is None:
        expected = "id next {id c: id} ... on Film {id n: next {id}}"
    assert text == f"query {{reel {{{expected}}}}}"


def normal(text: str, name: str | None = None, **variables: object) -> Operation:
    document = parse(text)
    assert validate(SCHEMA, document) == []
    return normalise(SCHEMA, document, name, variables)


def body(text: str, **variables: object) -> str:
    return normal(text, **variables).text.removeprefix("query ")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{user{id id}}", "{user {id}}"),
        ("{user{friend{id} friend{name}}}", "{user {friend {id name}}}"),
        ("{user{a:id ... on User{b:id}}}", "{user {a: id b: id}}"),
        ("{user{...on Node{id}...on Named{name}}}", "{user {id name}}"),
        ("{user{...F ...F}} fragment F on Node{id ...G} fragment G on Node{id}", "{user {id}}"),
        ("{named{...on Node{id}}}", "{named {id}}"),
        ("{node{...on User{id}...on User{name}}}", "{node {... on User {id name}}}"),
        (
            "{node{...on User{id}id ...on User{name}}}",
            "{node {... on User {id} id ... on User {name}}}",
        ),
        (
            "{thing{...on User{friend{id}}...on User{friend{name}}}}",
            "{thing {... on User {friend {id name}}}}",
        ),
        (
            "{a{node{id}...on Query{node{__typename}}node{...on User{name}}}}",
            "{a {node {id __typename ... on User {name}}}}",
        ),
        ("{user{...on Node{...on Post{title}}}}", "{user {}}"),
        ("{user{...on Node{...on User{name}}}}", "{user {name}}"),
        ("{thing{...on Node{id ...on Robot{model}}}}", "{thing {... on Node {id}}}"),
        ("{thing{...on Thing{__typename}}}", "{thing {__typename}}"),
        ('{user(id:"2"){posts(first:1){title}}}', '{user(id: "2") {posts(first: 1) {title}}}'),
        ("{__schema{queryType{name}}}", "{__schema {queryType {name}}}"),
        ("{...{user{id}}}", "{user {id}}"),
    ],
)
def test_equal_operations_have_one_form(written: str, expected: str) -> None:
    assert body(written) == expected


def test_conditions_are_decided_by_values_and_defaults() -> None:
    text = """
    query($yes: Boolean = true, $no: Boolean!, $first: Int) {
      user { id @skip(if: $yes) name @include(if: $yes) friend @include(if: $no) { id }
             ...P @skip(if: $no) ... @include(if: $yes) @skip(if: $yes) { friend { name } } }
    }
    fragment P on User { posts(first: $first) { title @include(if: true) id @skip(if: true) } }
    """
    assert normal(text, no=False).text == (
        "query($first: Int) {user {name posts(first: $first) {title}}}"
    )
    assert normal(text, no=True, yes=False).text == "query {user {id friend {id}}}"
    assert condition_variables(parse(text), None) == ("no", "yes")


def test_an_object_that_lost_all_its_fields_stays() -> None:
    operation = normal("{user{id @skip(if:true)}}")
    assert operation.selections[0] == Field(
        "user",
        "user",
        "Query",
        (),
        SCHEMA.query_type.fields["user"].type,
    )


def test_fields_know_their_type_and_parent() -> None:
    operation = normal("{user{...on Node{x:id}} node{...on User{name}}}")
    user, node = operation.selections
    assert isinstance(user, Field)
    assert isinstance(node, Field)
    (inner,) = user.selections
    assert isinstance(inner, Field)
    assert (inner.key, inner.name, inner.parent, str(inner.type)) == ("x", "id", "User", "ID!")
    (fragment,) = node.selections
    assert isinstance(fragment, Fragment)
    assert fragment.on == "User"


def test_the_operation_is_found_by_name() -> None:
    text = "query A{user{id}} mutation B($n:String!){rename(name:$n){id}} query C{node{id}}"
    assert normal(text, "B").text == "mutation($n: String!) {rename(name: $n) {id}}"
    assert normal(text, "B").root == "Mutation"
    with pytest.raises(ValueError, match="no operation named 'D'"):
        normal(text, "D")
    with pytest.raises(ValueError, match="name one"):
        normal(text)


def test_condition_variables_are_those_of_the_operation_alone() -> None:
    text = """
    query A($a: Boolean!) { user { ...F } } query B($b: Boolean!) { user { id @skip(if: $b) } }
    fragment F on User { friend { ...G } } fragment G on User { id @include(if: $a) }
    """
    assert condition_variables(parse(text), "A") == ("a",)
    assert condition_variables(parse(text), "B") == ("b",)


def test_a_bomb_that_collapses_costs_its_own_size() -> None:
    chain = "".join(f"fragment F{n} on Query{{a{{...F{n + 1} ...F{n + 1}}}}}" for n in range(60))
    operation = normal("{...F0 ...F0}" + chain + "fragment F60 on Query{__typename}")
    assert operation.text.count("a ") == 60


@pytest.mark.parametrize(
    "step",
    [
        "fragment F{n} on Query{{a{{...F{m}}} b{{...F{m}}}}}",
        "fragment F{n} on Query{{x:a{{...F{m}}} y:a{{...F{m}}} z:a{{...F{m}}}}}",
    ],
)
def test_a_bomb_that_grows_is_refused_at_once(step: str) -> None:
    chain = "".join(step.format(n=n, m=n + 1) for n in range(90))
    document = parse("{...F0}" + chain + "fragment F90 on Query{__typename}")
    start = time.process_time()
    with pytest.raises(OperationTooLarge) as refused:
        normalise(SCHEMA, document, None, {})
    assert time.process_time() - start < 0.5
    assert refused.value.code == "QUERY_TOO_EXPENSIVE"


def test_long_arguments_repeated_are_refused() -> None:
    chain = "".join(
        f"fragment F{n} on Query{{a{{...F{n + 1}}}b{{...F{n + 1}}}}}" for n in range(10)
    )
    text = "{...F0}" + chain + f'fragment F10 on Query{{user(id:"{"x" * 10_000}"){{id}}}}'
    with pytest.raises(OperationTooLarge):
        normalise(SCHEMA, parse(text), None, {})


def test_a_long_chain_of_fragments_is_read_without_recursion() -> None:
    chain = "".join(f"fragment F{n} on Query{{...F{n + 1}}}" for n in range(5000))
    document = parse("{...F0}" + chain + "fragment F5000 on Query{user{id}}")
    assert normalise(SCHEMA, document, None, {}).text == "query {user {id}}"
    deep = "".join(f"fragment F{n} on Query{{a{{...F{n + 1}}}}}" for n in range(5000))
    document = parse("{...F0}" + deep + "fragment F5000 on Query{user{id}}")
    with pytest.raises(OperationTooLarge, match="depth"):
        normalise(SCHEMA, document, None, {})
