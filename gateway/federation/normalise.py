"""A document becomes an `Operation`: fragments inlined, conditions decided, equal fields merged.

A level of the result is made once for each set of selection sets that meet there, so a fragment
spread in many places costs its size once; what the result would hold when written out is counted
before anything of that size exists. Order is the document's, so the result and its text are the
same for the same operation.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from graphql import (
    BooleanValueNode,
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLCompositeType,
    GraphQLField,
    GraphQLSchema,
    InlineFragmentNode,
    ListValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    ValueNode,
    VariableDefinitionNode,
    VariableNode,
    get_named_type,
    is_abstract_type,
    is_composite_type,
    print_ast,
)

from gateway.federation.errors import OperationTooLarge
from gateway.federation.operation import Field, Fragment, Operation, OperationKind, Selection

MAX_SELECTIONS = 10_000
"""Fields and fragments of an operation written out; long ones count as several."""

MAX_DEPTH = 100
"""Levels of fields and of fragments that narrow the type, within one another."""

VISITS_PER_SELECTION = 10
"""Selections read for one that is kept: repetition beyond it is an attack."""

SELECTION_CHARACTERS = 64
"""So many characters of an alias, name and arguments count as one more selection."""


def normalise(
    schema: GraphQLSchema,
    document: DocumentNode,
    operation_name: str | None,
    variables: Mapping[str, Any],
    limit: int = MAX_SELECTIONS,
) -> Operation:
    """The named operation of a document that is valid in `schema` (the API schema).

    `variables` are the request's, coerced or as sent: only booleans that decide a condition are
    read. Raises `OperationTooLarge` when more than `limit` selections would come of it.
    """
    fragments = _fragments(document)
    definition = find_operation(document, operation_name)
    decided = {
        one.variable.name.value: one.default_value.value
        for one in definition.variable_definitions or ()
        if isinstance(one.default_value, BooleanValueNode)
    }
    decided.update(variables)
    root = schema.get_root_type(definition.operation)
    assert root is not None, "a valid operation has a root type"
    walk = _Walk(schema, fragments, decided, limit)
    level = walk.level(root, frozenset({root.name}), (definition.selection_set,), 0)
    used = tuple(
        one
        for one in definition.variable_definitions or ()
        if one.variable.name.value in walk.variables
    )
    kind: OperationKind = definition.operation.value
    declared = f"({', '.join(_declaration(one) for one in used)})" if used else ""
    return Operation(
        kind=kind,
        name=definition.name.value if definition.name else None,
        root=root.name,
        variables=used,
        selections=level.selections,
        text=f"{kind}{declared} {level.text}",
    )


def condition_variables(document: DocumentNode, operation_name: str | None) -> tuple[str, ...]:
    """Names, sorted, of the variables that `@skip` and `@include` of the operation read."""
    fragments = _fragments(document)
    names: set[str] = set()
    reached: set[str] = set()
    stack: list[SelectionSetNode] = [find_operation(document, operation_name).selection_set]
    while stack:
        for node in stack.pop().selections:
            for directive in node.directives or ():
                if directive.name.value in ("skip", "include"):
                    names.update(_variable_names(one.value for one in directive.arguments or ()))
            if isinstance(node, FragmentSpreadNode):
                name = node.name.value
                if name not in reached:
                    reached.add(name)
                    stack.append(fragments[name].selection_set)
            else:
                inner = cast(FieldNode | InlineFragmentNode, node).selection_set
                if inner is not None:
                    stack.append(inner)
    return tuple(sorted(names))


def find_operation(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
    """The operation called `name`, or the only one; ValueError if there is no such."""
    found = [
        one
        for one in document.definitions
        if isinstance(one, OperationDefinitionNode)
        and (name is None or (one.name is not None and one.name.value == name))
    ]
    if len(found) == 1:
        return found[0]
    if name is not None:
        raise ValueError(f"there is no operation named {name!r}")
    raise ValueError("the document has no operation" if not found else "name one operation")


def _fragments(document: DocumentNode) -> dict[str, FragmentDefinitionNode]:
    return {
        one.name.value: one
        for one in document.definitions
        if isinstance(one, FragmentDefinitionNode)
    }


def _declaration(node: VariableDefinitionNode) -> str:
    default = f" = {print_ast(node.default_value)}" if node.default_value else ""
    return f"${node.variable.name.value}: {print_ast(node.type)}{default}"


def _variable_names(values: Iterable[ValueNode]) -> set[str]:
    names: set[str] = set()
    stack = list(values)
    while stack:
        value = stack.pop()
        if isinstance(value, VariableNode):
            names.add(value.name.value)
        elif isinstance(value, ListValueNode):
            stack.extend(value.values)
        elif isinstance(value, ObjectValueNode):
            stack.extend(one.value for one in value.fields)
    return names


@dataclass(slots=True)
class _Level:
    """A level made: what it holds, its text in braces, its size when written out."""

    selections: tuple[Selection, ...]
    text: str
    size: int


@dataclass(slots=True)
class _Group:
    """What meets under one response key (`node`), or in one fragment (`node` is None)."""

    on: GraphQLCompositeType
    node: FieldNode | None
    sets: list[SelectionSetNode] = field(default_factory=list)


_Source = tuple[SelectionSetNode, ...]


class _Walk:
    """One normalisation: its memory of levels, the variables met, the work counted."""

    def __init__(
        self,
        schema: GraphQLSchema,
        fragments: Mapping[str, FragmentDefinitionNode],
        decided: Mapping[str, Any],
        limit: int,
    ) -> None:
        self.schema = schema
        self.fragments = fragments
        self.decided = decided
        self.limit = limit
        self.visits = limit * VISITS_PER_SELECTION
        self.variables: set[str] = set()
        self.levels: dict[tuple[str, frozenset[str], tuple[int, ...]], _Level] = {}
        self.objects: dict[str, frozenset[str]] = {}
        self.printed: dict[int, str] = {}

    def level(
        self, parent: GraphQLCompositeType, types: frozenset[str], sets: _Source, depth: int
    ) -> _Level:
        """What `sets` select together on `parent`, for runtime types within `types`."""
        memory = (parent.name, types, tuple(map(id, sets)))
        made = self.levels.get(memory)
        if made is None:
            if depth > MAX_DEPTH:
                raise OperationTooLarge("depth", MAX_DEPTH)
            made = self.levels[memory] = self.make(parent, types, sets, depth)
        return made

    def make(
        self, parent: GraphQLCompositeType, types: frozenset[str], sets: _Source, depth: int
    ) -> _Level:
        selections: list[Selection] = []
        texts: list[str] = []
        size = 0
        for group in self.groups(parent, types, sets):
            if group.node is None:
                inner = self.level(
                    group.on, types & self.runtime(group.on), tuple(group.sets), depth + 1
                )
                if not inner.selections:
                    continue
                selections.append(Fragment(group.on.name, inner.selections))
                texts.append(f"... on {group.on.name} {inner.text}")
                size += 1 + inner.size
            else:
                one, text, weight = self.field(parent, group, depth)
                selections.append(one)
                texts.append(text)
                size += weight
            if size > self.limit:
                raise OperationTooLarge("selections", self.limit)
        return _Level(tuple(selections), "{" + " ".join(texts) + "}", size)

    def field(
        self, parent: GraphQLCompositeType, group: _Group, depth: int
    ) -> tuple[Field, str, int]:
        node = group.node
        assert node is not None
        name = node.name.value
        definition = self.definition(parent, name)
        key = node.alias.value if node.alias else name
        arguments = self.arguments(node)
        text = f"{key}: {name}{arguments}" if node.alias else f"{name}{arguments}"
        size = 1 + len(text) // SELECTION_CHARACTERS
        selections: tuple[Selection, ...] = ()
        kind = get_named_type(definition.type)
        if is_composite_type(kind):
            inner = self.level(kind, self.runtime(kind), tuple(group.sets), depth + 1)
            selections = inner.selections
            text = f"{text} {inner.text}"
            size += inner.size
        one = Field(
            key=key,
            name=name,
            parent=parent.name,
            arguments=tuple((each.name.value, each.value) for each in node.arguments or ()),
            type=definition.type,
            selections=selections,
        )
        return one, text, size

    def definition(self, parent: GraphQLCompositeType, name: str) -> GraphQLField:
        found = self.schema.get_field(parent, name)
        if found is None:
            raise ValueError(f"{parent.name} has no field {name}: the document is not valid")
        return found

    def arguments(self, node: FieldNode) -> str:
        """The arguments printed, or nothing; their variables are noted."""
        if not node.arguments:
            return ""
        known = self.printed.get(id(node))
        if known is None:
            self.variables |= _variable_names(one.value for one in node.arguments)
            inside = ", ".join(
                f"{one.name.value}: {print_ast(one.value)}" for one in node.arguments
            )
            known = self.printed[id(node)] = f"({inside})"
        return known

    def groups(
        self, parent: GraphQLCompositeType, types: frozenset[str], sets: _Source
    ) -> list[_Group]:
        """The level's fields by response key and its fragments, in order.

        Fragments of one type that stand beside each other are one. A field with selections whose
        key a fragment has had since begins anew: what it adds comes after what the fragment adds.
        """
        fields: dict[str, _Group] = {}
        since = _Since(self)
        groups: list[_Group] = []
        spread: set[str] = set()
        stack: list[Iterator[SelectionNode]] = [
            iter(one.selections) for one in reversed(_distinct(sets))
        ]
        while stack:
            node = next(stack[-1], None)
            if node is None:
                stack.pop()
                continue
            self.count()
            if not self.included(node.directives or ()):
                continue
            if isinstance(node, FieldNode):
                key = node.alias.value if node.alias else node.name.value
                group = fields.get(key)
                if group is None or (node.selection_set is not None and since.has(key, group)):
                    group = fields[key] = _Group(parent, node)
                    since.begin(group)
                    groups.append(group)
                if node.selection_set is not None:
                    group.sets.append(node.selection_set)
                continue
            found = self.fragment(parent, types, node, spread)
            if found is None:
                continue
            on, inside = found
            if self.covers(on, parent):
                stack.append(iter(inside.selections))
                continue
            since.fragment(inside)
            if groups and groups[-1].node is None and groups[-1].on is on:
                groups[-1].sets.append(inside)
            else:
                groups.append(_Group(on, None, [inside]))
        return groups

    def keys(self, inside: SelectionSetNode) -> Iterator[str]:
        """Response keys of a fragment's fields that have selections, whatever the conditions."""
        stack = [inside]
        spread: set[str] = set()
        while stack:
            for node in stack.pop().selections:
                self.count()
                if isinstance(node, FieldNode):
                    if node.selection_set is not None:
                        yield node.alias.value if node.alias else node.name.value
                elif isinstance(node, InlineFragmentNode):
                    stack.append(node.selection_set)
                elif isinstance(node, FragmentSpreadNode) and node.name.value not in spread:
                    spread.add(node.name.value)
                    stack.append(self.fragments[node.name.value].selection_set)

    def fragment(
        self,
        parent: GraphQLCompositeType,
        types: frozenset[str],
        node: SelectionNode,
        spread: set[str],
    ) -> tuple[GraphQLCompositeType, SelectionSetNode] | None:
        """A fragment's type and selections; None if it is repeated or can never apply."""
        if isinstance(node, FragmentSpreadNode):
            name = node.name.value
            if name in spread:
                return None
            spread.add(name)
            definition = self.fragments[name]
            condition, inside = definition.type_condition.name.value, definition.selection_set
        else:
            assert isinstance(node, InlineFragmentNode)
            inside = node.selection_set
            if node.type_condition is None:
                return parent, inside
            condition = node.type_condition.name.value
        on = self.schema.get_type(condition)
        if not is_composite_type(on):
            raise ValueError(f"{condition} takes no selections: the document is not valid")
        if types and not types & self.runtime(on):
            return None
        return on, inside

    def covers(self, on: GraphQLCompositeType, parent: GraphQLCompositeType) -> bool:
        """Whether every object read as `parent` is one of `on`, with all fields of `on`."""
        return on is parent or (is_abstract_type(on) and self.schema.is_sub_type(on, parent))

    def runtime(self, kind: GraphQLCompositeType) -> frozenset[str]:
        found = self.objects.get(kind.name)
        if found is None:
            found = (
                frozenset(one.name for one in self.schema.get_possible_types(kind))
                if is_abstract_type(kind)
                else frozenset({kind.name})
            )
            self.objects[kind.name] = found
        return found

    def included(self, directives: Iterable[DirectiveNode]) -> bool:
        for directive in directives:
            name = directive.name.value
            if name not in ("skip", "include"):
                continue
            value = directive.arguments[0].value if directive.arguments else None
            if isinstance(value, VariableNode):
                holds = self.decided.get(value.name.value) is True
            else:
                holds = isinstance(value, BooleanValueNode) and value.value
            if holds is (name == "skip"):
                return False
        return True

    def count(self) -> None:
        self.visits -= 1
        if self.visits < 0:
            raise OperationTooLarge("selections", self.limit)


class _Since:
    """Which keys fragments of a level have had since its fields began; read when first asked."""

    def __init__(self, walk: _Walk) -> None:
        self.walk = walk
        self.now = 0
        self.at: dict[int, int] = {}
        self.new: list[tuple[int, SelectionSetNode]] = []
        self.last: dict[str, int] = {}

    def begin(self, group: _Group) -> None:
        self.now += 1
        self.at[id(group)] = self.now

    def fragment(self, inside: SelectionSetNode) -> None:
        self.now += 1
        self.new.append((self.now, inside))

    def has(self, key: str, group: _Group) -> bool:
        """Whether a fragment after a field's group has a field of that key, too."""
        for place, inside in self.new:
            self.last.update(dict.fromkeys(self.walk.keys(inside), place))
        self.new.clear()
        return self.last.get(key, 0) > self.at[id(group)]


def _distinct(sets: _Source) -> list[SelectionSetNode]:
    return list({id(one): one for one in sets}.values())
