"""What is told of the schema is kept, but not for every document that asks for all of it."""

from graphql import build_schema, parse

from gateway.federation import introspection
from gateway.federation.introspection import Introspection
from gateway.federation.normalise import normalise

FIELDS = " ".join(f"field{number}: Int" for number in range(600))
SCHEMA = build_schema(f"type Query {{ {FIELDS} }}")


def asked(text: str) -> Introspection:
    return Introspection(SCHEMA, normalise(SCHEMA, parse(text), None, {}))


def test_small_answers_are_kept_with_the_document() -> None:
    small = asked('{ __type(name: "Query") { name } }')
    assert small.answer({}) is small.answer({})
    assert len(small._known) == 1


def test_of_large_answers_few_are_kept() -> None:
    documents = [
        asked(f"{{ k{number}: __schema {{ types {{ fields {{ name type {{ name }} }} }} }} }}")
        for number in range(20)
    ]
    first = [one.answer({}) for one in documents]
    assert documents[19].answer({}) is first[19]
    assert documents[0].answer({}) == first[0]
    assert all(one._known == {} for one in documents)
    assert len(introspection._RECENT) == 8
