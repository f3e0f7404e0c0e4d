"""What one request to /graphql may ask, and how a caller is told that it is too much.

Source: security.md §1.11; the measuring is the library's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from graphql import DocumentNode, GraphQLSchema, OperationDefinitionNode

from gateway.errors import Denied
from gateway.federation import limits as library


@dataclass(frozen=True, slots=True)
class Limits(library.Limits):
    """The library's, tighter, and with a limit of cost: our own schema's pages are known."""

    tokens: int = 4_000
    depth: int | None = 12
    aliases: int | None = 30
    cost: int | None = 5_000


class QueryTooExpensive(Denied):
    code = "QUERY_TOO_EXPENSIVE"
    when = "a request is above the limit of cost, depth, aliases or tokens"
    zh = "查询代价 {cost},上限 {limit};去掉 {field} 可降到 {without}"
    en = "cost {cost}, limit {limit}; without {field} it is {without}"
    next_zh = "请去掉该字段或减少条数"
    next_en = "drop the field or ask for fewer rows"
    status = 400

    def __init__(self, found: library.TooExpensive) -> None:
        super().__init__(
            cost=found.asked, limit=found.limit, without=found.without, measure=found.measure
        )
        self.context["field"] = found.drop


def read(text: str, limits: library.Limits) -> DocumentNode:
    """Parse a document of at most `limits.tokens` tokens.

    Raises:
        QueryTooExpensive: It has more.
        GraphQLSyntaxError: It cannot be read.
    """
    try:
        return library.read(text, limits)
    except library.TooExpensive as error:
        raise QueryTooExpensive(error) from error


def check(
    document: DocumentNode,
    operation: OperationDefinitionNode,
    *,
    schema: GraphQLSchema,
    variables: Mapping[str, object],
    limits: library.Limits,
) -> int:
    """Measure an operation before it is validated.

    Returns:
        Its cost.

    Raises:
        QueryTooExpensive: A measure is above its limit; names what to drop.
    """
    try:
        return library.check(document, operation, schema=schema, variables=variables, limits=limits)
    except library.TooExpensive as error:
        raise QueryTooExpensive(error) from error
