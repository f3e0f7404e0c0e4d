"""What one request may ask: tokens, depth, aliases, directives, repetition, size, cost. Pure.

One pass measures a document, each fragment once: expanding them at every spread is a denial of
service. Cost counts objects: a field with a selection costs 1, what it selects is multiplied by
the number of rows asked for (the page argument, written or by variable; `_entities` by its
representations; another list by `list_size`). A mutation's root field costs more. Introspection
costs nothing, but each `__schema` or `__type` may tell of the whole schema: there are few of them.
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


@dataclass(frozen=True, slots=True)
class Pricing:
    """How many rows a field is taken to give, and what a mutation's root field costs more."""

    page_argument: str = "first"
    page_size: int = 20
    list_size: int = 5
    mutation: int = 10


@dataclass(frozen=True, slots=True)
class Limits:
    """The most a request may ask; None is no limit.

    `fields` counts an operation's fields with every fragment written out; `duplicates` those
    written again in one selection set; `directives` and `operations` are a document's. A limit of
    cost needs to know how many rows a field gives, so there is none unless it is set.
    """

    tokens: int = 10_000
    depth: int | None = 50
    aliases: int | None = 200
    directives: int | None = 200
    duplicates: int | None = 100
    fields: int | None = 10_000
    operations: int | None = 100
    introspection: int | None = 10
    cost: int | None = None
    pricing: Pricing = Pricing()


class TooExpensive(Exception):
    """A request is above a limit; without `drop` it would ask for `without`."""

    def __init__(self, measure: str, *, asked: int, limit: int, drop: str, without: int) -> None:
        self.measure = measure
        self.asked = asked
        self.limit = limit
        self.drop = drop
        self.without = without
        super().__init__(f"{measure}: {asked} asked for, {limit} is the limit")


@dataclass(slots=True)
class Sum:
    """What a selection asks for."""

    depth: int = 0
    aliases: int = 0
    fields: int = 0
    cost: int = 0
    introspection: int = 0


def read(text: str, limits: Limits, *, located: bool = True) -> DocumentNode:
    """Parse a document of at most `limits.tokens` tokens.

    Args:
        located: Keep in every node where it is, which keeps all tokens.

    Raises:
        TooExpensive: It has more.
        GraphQLSyntaxError: It cannot be read.
    """
    try:
        return parse(
            text,
            no_location=not located,
            max_lexical_tokens=limits.tokens,
            max_comments=limits.tokens,
            allow_empty_selection_sets=False,
        )
    except GraphQLSyntaxError as error:
        if "Document contains more than" in error.message:
            most = limits.tokens
            raise _over("tokens", most + 1, most) from error
        raise


def check(
    document: DocumentNode,
    operation: OperationDefinitionNode,
    *,
    schema: GraphQLSchema,
    variables: Mapping[str, object],
    limits: Limits,
) -> int:
    """Measure an operation, before it is validated or after.

    Returns:
        Its cost.

    Raises:
        TooExpensive: A measure is above its limit; names what to drop.
    """
    meter = Meter(schema, document, operation, variables, limits.pricing)
    try:
        return meter.require(limits)
    except RecursionError as error:
        raise _over("depth", (limits.depth or 0) + 1, limits.depth or 0) from error


def check_shape(document: DocumentNode, *, schema: GraphQLSchema, limits: Limits) -> None:
    """Measure all operations of a document together, before it is validated, by all but cost.

    Raises:
        TooExpensive: A measure is above its limit.
    """
    meter: Meter | None = None
    operations = 0
    try:
        for definition in document.definitions:
            if not isinstance(definition, OperationDefinitionNode):
                continue
            operations += 1
            if limits.operations is not None and operations > limits.operations:
                raise _over("operations", operations, limits.operations)
            before = meter.known if meter else {}
            counts = (meter.duplicates, meter.directives) if meter else (0, 0)
            meter = Meter(schema, document, definition, {}, limits.pricing, known=before)
            meter.duplicates += counts[0]
            meter.directives += counts[1]
            meter.require_shape(meter.measure(), limits)
    except RecursionError as error:
        raise _over("depth", (limits.depth or 0) + 1, limits.depth or 0) from error


def _over(measure: str, asked: int, most: int) -> TooExpensive:
    return TooExpensive(measure, asked=asked, limit=most, drop=measure, without=most)


@dataclass(slots=True)
class Meter:
    """Measures one operation of a document.

    `paged` tells, after measuring, whether a variable's value entered the cost.
    """

    schema: GraphQLSchema
    document: DocumentNode
    operation: OperationDefinitionNode
    variables: Mapping[str, object]
    pricing: Pricing = Pricing()
    paged: bool = False
    defaults: dict[str, ValueNode | None] = field(default_factory=dict)
    fragments: dict[str, FragmentDefinitionNode] = field(default_factory=dict)
    known: dict[str, Sum] = field(default_factory=dict)
    duplicates: int = 0
    directives: int = 0

    def __post_init__(self) -> None:
        for definition in self.document.definitions:
            if isinstance(definition, FragmentDefinitionNode):
                self.fragments[definition.name.value] = definition
        for variable in self.operation.variable_definitions or ():
            self.defaults[variable.variable.name.value] = variable.default_value
            self.directives += len(variable.directives or ())
        self.directives += len(self.operation.directives or ())

    def require(self, limits: Limits) -> int:
        """The operation's cost; raises TooExpensive when any measure is above its limit."""
        found = self.measure()
        self.require_shape(found, limits)
        self.require_cost(found.cost, limits)
        return found.cost

    def require_cost(self, cost: int, limits: Limits) -> None:
        """Raise TooExpensive when a cost is above its limit; names what to drop."""
        most = limits.cost
        if most is not None and cost > most:
            name, without = self.what_to_drop(cost, most)
            raise TooExpensive("cost", asked=cost, limit=most, drop=name, without=without)

    def require_shape(self, found: Sum, limits: Limits) -> None:
        """Raise TooExpensive when `found` is above a limit, whatever it costs."""
        for measure, asked, most in (
            ("depth", found.depth, limits.depth),
            ("aliases", found.aliases, limits.aliases),
            ("directives", self.directives, limits.directives),
            ("duplicates", self.duplicates, limits.duplicates),
            ("fields", found.fields, limits.fields),
            ("introspection", found.introspection, limits.introspection),
        ):
            if most is not None and asked > most:
                raise _over(measure, asked, most)

    def measure(self) -> Sum:
        """What the operation asks for; counts `duplicates` and `directives` on the way."""
        found = self.selection(self.operation.selection_set, self.root())
        if self.operation.operation is OperationType.MUTATION:
            found.cost += self.pricing.mutation * len(self.operation.selection_set.selections)
        return found

    def root(self) -> object:
        return self.schema.get_root_type(self.operation.operation)

    def selection(self, selected: SelectionSetNode, parent: object) -> Sum:
        total = Sum()
        keys: set[str] = set()
        for node in selected.selections:
            self.directives += len(node.directives or ())
            found = self.node(node, parent, keys)
            total.depth = max(total.depth, found.depth)
            total.aliases += found.aliases
            total.fields += found.fields
            total.cost += found.cost
            total.introspection += found.introspection
        return total

    def node(self, node: object, parent: object, keys: set[str]) -> Sum:
        if isinstance(node, FieldNode):
            key = node.alias.value if node.alias else node.name.value
            if key in keys:
                self.duplicates += 1
            keys.add(key)
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
                self.directives += len(definition.directives or ())
                condition = self.schema.get_type(definition.type_condition.name.value)
                self.known[name] = self.selection(definition.selection_set, condition)
        return self.known[name]

    def of_field(self, node: FieldNode, parent: object) -> Sum:
        alias = 1 if node.alias else 0
        if node.selection_set is None:
            return Sum(1, alias, 1, 0)
        if node.name.value.startswith("__"):
            inside = self.selection(node.selection_set, None)
            return Sum(1, alias + inside.aliases, 1 + inside.fields, 0, 1)
        definition = _definition(parent, node.name.value)
        inner = get_named_type(definition.type) if definition else None
        found = self.selection(node.selection_set, inner)
        each = found.cost + (node.name.value == "_entities")  # Each is looked up by itself.
        cost = 1 + self.rows(node, definition) * each
        return Sum(1 + found.depth, alias + found.aliases, 1 + found.fields, cost)

    def rows(self, node: FieldNode, definition: GraphQLField | None) -> int:
        """How many rows the field may give."""
        if node.name.value == "_entities":
            return max(1, self.length(node, "representations"))
        if definition is None:
            return 1
        if self.pricing.page_argument in definition.args:
            return max(0, self.number(node, self.pricing.page_argument))
        kind = definition.type
        if isinstance(kind, GraphQLNonNull):
            kind = kind.of_type
        counted = isinstance(kind, GraphQLList) and node.name.value != "edges"
        return self.pricing.list_size if counted else 1

    def argument(self, node: FieldNode, name: str) -> object:
        """An argument's literal node, or the plain value of its variable; None if not given."""
        for argument in node.arguments or ():
            if argument.name.value == name:
                if isinstance(argument.value, VariableNode):
                    self.paged = True
                    variable = argument.value.name.value
                    if variable in self.variables:
                        return self.variables[variable]
                    return self.defaults.get(variable)
                return argument.value
        return None

    def number(self, node: FieldNode, name: str) -> int:
        given = self.argument(node, name)
        if isinstance(given, IntValueNode):
            return _whole(given.value)
        return given if isinstance(given, int) else self.pricing.page_size

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
            yield name, times * self.node(node, parent, set()).cost
            if isinstance(node, FieldNode) and node.selection_set:
                definition = _definition(parent, node.name.value)
                inner = get_named_type(definition.type) if definition else None
                rows = times * self.rows(node, definition)
                yield from self.paths(node.selection_set, inner, f"{name}.", rows)


def _whole(digits: str) -> int:
    """A written number; one no Int can be is as good as the largest."""
    return int(digits) if len(digits) < 12 else 2**31


def _cost(found: tuple[str, int]) -> int:
    return found[1]


def _definition(parent: object, name: str) -> GraphQLField | None:
    if isinstance(parent, GraphQLObjectType | GraphQLInterfaceType):
        found: GraphQLField | None = parent.fields.get(name)
        return found
    return None
