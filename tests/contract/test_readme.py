"""The GraphQL shown in README and docs is valid against the API schema."""

import re
from pathlib import Path

import graphql
import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(text, id=f"{page.name}-{number}")
    for page in PAGES
    for number, text in enumerate(
        re.findall(r"^```graphql\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE), 1
    )
]


@pytest.fixture(scope="module")
def schema() -> graphql.GraphQLSchema:
    return graphql.build_schema((ROOT / "schema.graphql").read_text("utf-8"))


@pytest.mark.parametrize("text", BLOCKS)
def test_shown_graphql_is_valid(schema: graphql.GraphQLSchema, text: str) -> None:
    assert [str(error) for error in graphql.validate(schema, graphql.parse(text))] == []


def test_there_is_graphql_to_check() -> None:
    assert len(BLOCKS) >= 3


@pytest.mark.parametrize(
    ("page", "operation"),
    [
        ("events.md", "registerWebhook"),
        ("operations.md", "proposeReviewResolution"),
        ("operations.md", "approveReviewResolution"),
    ],
)
def test_what_people_do_by_hand_has_an_example(page: str, operation: str) -> None:
    shown = [block.values[0] for block in BLOCKS if str(block.id).startswith(page)]
    assert any(f"{operation}(" in str(text) for text in shown)


def test_an_argument_says_what_it_does_here(schema: graphql.GraphQLSchema) -> None:
    webhook = schema.type_map["Webhook"]
    assert isinstance(webhook, graphql.GraphQLObjectType)
    told = webhook.fields["deliveries"].args["failed"].description
    assert told == "True: those only whose last try failed."
