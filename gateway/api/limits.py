"""What one request may ask: tokens, depth, aliases, cost. One pass, each fragment once. Pure.

Cost counts objects: a field with a selection costs 1, what it selects is multiplied by the
number of rows asked for (`first`, written or by variable; `_entities` by its representations;
another list by LIST_SIZE). A mutation's root field costs MUTATION_COST more. Introspection is
bounded by its own validation rule and by the tokens.

Source: security.md §1.11; fragments are measured once, since expanding them at every spread is
a denial of service.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLSyntaxError,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    parse,
)

from gateway.errors import Denied

LIST_SIZE = 5
PAGE_SIZE = 20
MUTATION_COST = 10


@dataclass(frozen=True, slots=True)
class Limits:
    depth: int = 12
    aliases: int = 30
    tokens: int = 4_000
    cost: int = 5_000


class QueryTooExpensive(Denied):
    code = "QUERY_TOO_EXPENSIVE"
    when = "a request is above the limit of cost, depth, aliases or tokens"
    zh = "查询代价 {cost},上限 {limit};去掉 {field} 可降到 {without}"
    en = "cost {cost}, limit {limit}; without {field} it is {without}"
    next_zh = "请去掉该字段或减少条数"
    next_en = "drop the field or ask for fewer rows"
    status = 400

    def __init__(self, measure: str, *, asked: int, limit: int, drop: str, without: int) -> None:
        super().__init__(cost=asked, limit=limit, without=without, measure=measure)
        self.context["field"] = drop


@dataclass(frozen=True, slots=True)
class Sum:
    """What a selection asks for."""

    depth: int = 0
    aliases: int = 0
    cost: int = 0


def read(text: str, limits: Limits) -> DocumentNode:
    """Parse a document of at most `limits.tokens` tokens.

    Raises:
        QueryTooExpensive: It has more.
        GraphQLSyntaxError: It cannot be read.
    """
    try:
        return parse(
            text,
            max_lexical_tokens=limits.tokens,
            max_comments=limits.tokens,
            allow_empty_selection_sets=False,
        )
    except GraphQLSyntaxError as error:
        if "Document contains more than" in error.message:
            most = limits.tokens
            raise QueryTooExpensive(
                "tokens", asked=most + 1, limit=most, drop="tokens", without=most
            ) from error
        raise


def check(
    document: DocumentNode,
    operation: OperationDefinitionNode,
    *,
    schema: GraphQLSchema,
    variables: Mapping[str, object],
    limits: Limits,
) -> int:
    """Measure an operation before it is validated.

    Returns:
        Its cost.

    Raises:
        QueryTooExpensive: Depth, aliases or cost is above the limit; names what to drop.
    """
    meter = _Meter(schema, document, operation, variables)
    found = meter.measure()
    for measure, asked, most in (
        ("depth", found.depth, limits.depth),
        ("aliases", found.aliases, limits.aliases),
    ):
        if asked > most:
            raise QueryTooExpensive(measure, asked=asked, limit=most, drop=measure, without=most)
    if found.cost > limits.cost:
        name, without = meter.what_to_drop(found.cost, limits.cost)
        raise QueryTooExpensive(
            "cost", asked=found.cost, limit=limits.cost, drop=name, without=without
        )
    return found.cost


@dataclass(slots=True)
class _Meter:
    schema: GraphQLSchema
    document: DocumentNode
    operation: OperationDefinitionNode
    variables: Mapping[str, object]
    defaults: dict[str, ValueNode | None] = field(default_factory=dict)
    fragments: dict[str, FragmentDefinitionNode] = field(default_factory=dict)
    known: dict[str, Sum] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for definition in self.document.definitions:
            if isinstance(definition, FragmentDefinitionNode):
                self.fragments[definition.name.value] = definition
        for variable in self.operation.variable_definitions or ():
            self.defaults[variable.variable.name.value] = variable.default_value

    def measure(self) -> Sum:
        found = self.selection(self.operation.selection_set, self.root())
        if self.operation.operation is OperationType.MUTATION:
            roots = len(self.operation.selection_set.selections)
            return Sum(found.depth, found.aliases, found.cost + MUTATION_COST * roots)
        return found

    def root(self) -> object:
        return self.schema.get_root_type(self.operation.operation)

    def selection(self, selected: SelectionSetNode, parent: object) -> Sum:
        depth = aliases = cost = 0
        for node in selected.selections:
            found = self.node(node, parent)
            depth = max(depth, found.depth)
            aliases += found.aliases
            cost += found.cost
        return Sum(depth, aliases, cost)

    def node(self, node: object, parent: object) -> Sum:
        if isinstance(node, FieldNode):
            return self.of_field(node, parent)
        if isinstance(node, FragmentSpreadNode):
            return self.fragment(node.name.value)
        assert isinstance(node, InlineFragmentNode)
        condition = node.type_condition
        inner = self.schema.get_type(condition.name.value) if condition else parent
        return self.selection(node.selection_set, inner)

    def fragment(self, name: str) -> Sum:
        if name not in self.known:
            self.known[name] = Sum()  # A cycle counts nothing; validation refuses it.
            if definition := self.fragments.get(name):
                condition = self.schema.get_type(definition.type_condition.name.value)
                self.known[name] = self.selection(definition.selection_set, condition)
        return self.known[name]

    def of_field(self, node: FieldNode, parent: object) -> Sum:
        alias = 1 if node.alias else 0
        if node.name.value.startswith("__"):
            return Sum(1, alias, 0)
        if node.selection_set is None:
            return Sum(1, alias, 0)
        definition = _definition(parent, node.name.value)
        inner = get_named_type(definition.type) if definition else None
        found = self.selection(node.selection_set, inner)
        cost = 1 + self.rows(node, definition) * found.cost
        return Sum(1 + found.depth, alias + found.aliases, cost)

    def rows(self, node: FieldNode, definition: GraphQLField | None) -> int:
        """How many rows the field may give."""
        if node.name.value == "_entities":
            return max(1, self.length(node, "representations"))
        if definition is None:
            return 1
        if "first" in definition.args:
            return max(0, self.number(node, "first"))
        kind = definition.type
        if isinstance(kind, GraphQLNonNull):
            kind = kind.of_type
        counted = isinstance(kind, GraphQLList) and node.name.value != "edges"
        return LIST_SIZE if counted else 1

    def argument(self, node: FieldNode, name: str) -> object:
        """An argument's literal node, or the plain value of its variable; None if not given."""
        for argument in node.arguments or ():
            if argument.name.value == name:
                if isinstance(argument.value, VariableNode):
                    variable = argument.value.name.value
                    if variable in self.variables:
                        return self.variables[variable]
                    return self.defaults.get(variable)
                return argument.value
        return None

    def number(self, node: FieldNode, name: str) -> int:
        given = self.argument(node, name)
        if isinstance(given, IntValueNode):
            return int(given.value)
        return given if isinstance(given, int) else PAGE_SIZE

    def length(self, node: FieldNode, name: str) -> int:
        given = self.argument(node, name)
        if isinstance(given, ListValueNode):
            return len(given.values)
        return len(given) if isinstance(given, list) else 1

    def what_to_drop(self, total: int, limit: int) -> tuple[str, int]:
        """The cheapest field without which the limit holds, else the dearest; what is left."""
        fields = list(self.paths(self.operation.selection_set, self.root(), "", 1))
        enough = [found for found in fields if total - found[1] <= limit]
        name, cost = min(enough, key=_cost) if enough else max(fields, key=_cost)
        return name, total - cost

    def paths(
        self, selected: SelectionSetNode, parent: object, path: str, times: int
    ) -> Iterator[tuple[str, int]]:
        """Every field or spread written in the operation, with what it adds to the cost."""
        for node in selected.selections:
            if isinstance(node, InlineFragmentNode):
                condition = node.type_condition
                inner = self.schema.get_type(condition.name.value) if condition else parent
                yield from self.paths(node.selection_set, inner, path, times)
                continue
            assert isinstance(node, FieldNode | FragmentSpreadNode)
            name = f"{path}{node.name.value}"
            yield name, times * self.node(node, parent).cost
            if isinstance(node, FieldNode) and node.selection_set:
                definition = _definition(parent, node.name.value)
                inner = get_named_type(definition.type) if definition else None
                rows = times * self.rows(node, definition)
                yield from self.paths(node.selection_set, inner, f"{name}.", rows)


def _cost(found: tuple[str, int]) -> int:
    return found[1]


def _definition(parent: object, name: str) -> GraphQLField | None:
    if isinstance(parent, GraphQLObjectType | GraphQLInterfaceType):
        found: GraphQLField | None = parent.fields.get(name)
        return found
    return None
