"""Whether fields that meet can be merged, in time that grows with the document and no faster.

graphql-core compares fields in pairs, and gives up on large honest documents or spends seconds on
small dishonest ones. Here all fields that meet under one response key are one group, compared with
its first; the selections below a group are merged and looked at together, each set of selections
once. Two questions are asked: do all members have the same shape (they share a place in the
answer), and are those of overlapping parent types the same field with the same arguments?

Source: GraphQL specification, Field Selection Merging.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from graphql import (
    FieldNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLList,
    GraphQLNonNull,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValidationContext,
    ValidationRule,
    get_named_type,
    is_composite_type,
    is_leaf_type,
    is_object_type,
    print_ast,
)
from graphql.utilities.sort_value_node import sort_value_node

_VISITS = 200_000
_REPORTED = 5

Source = tuple[SelectionSetNode, Any]
"""Selections and the type they are on (None: unknown)."""


class _Asked(Enum):
    SHAPE = "shape"
    SAME = "same"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class _Member:
    """A field that meets others: where it is selected, and its type as far as it is known."""

    parent: Any
    node: FieldNode
    type: Any


class OverlappingFields(ValidationRule):
    """Fields of one response key are one field, or can never meet and look alike."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self._left = _VISITS
        self._reported = 0
        self._seen: set[tuple[_Asked, tuple[int, ...]]] = set()
        self._signatures: dict[int, tuple[str, str]] = {}

    def enter_operation_definition(self, node: OperationDefinitionNode, *_: Any) -> None:
        root = self.context.schema.get_root_type(node.operation)
        waiting: list[tuple[_Asked, list[Source]]] = [(_Asked.BOTH, [(node.selection_set, root)])]
        while waiting and self._reported < _REPORTED:
            asked, sources = waiting.pop()
            key = (asked, tuple(sorted({id(selected) for selected, _ in sources})))
            if key in self._seen:
                continue
            self._seen.add(key)
            for members in self._groups(sources):
                waiting += self._judged(asked, members)
            if self._left < 0:
                self._reported = _REPORTED
                self.report_error(GraphQLError("Too many fields meet in one place.", node))

    def _groups(self, sources: list[Source]) -> Iterable[list[_Member]]:
        """The fields of these selections together, by response key."""
        groups: dict[str, list[_Member]] = {}
        spread: set[str] = set()
        queue = deque({id(one[0]): one for one in sources}.values())
        while queue:
            selected, parent = queue.popleft()
            self._left -= len(selected.selections)
            for node in selected.selections:
                if isinstance(node, FieldNode):
                    member = _Member(parent, node, self._type(parent, node.name.value))
                    key = node.alias.value if node.alias else node.name.value
                    groups.setdefault(key, []).append(member)
                elif isinstance(node, FragmentSpreadNode):
                    fragment = self.context.get_fragment(node.name.value)
                    if fragment is not None and node.name.value not in spread:
                        spread.add(node.name.value)
                        on = self._composite(fragment.type_condition.name.value)
                        queue.append((fragment.selection_set, on))
                elif isinstance(node, InlineFragmentNode):
                    condition = node.type_condition
                    on = self._composite(condition.name.value) if condition else parent
                    queue.append((node.selection_set, on))
        return groups.values()

    def _judged(
        self, asked: _Asked, members: list[_Member]
    ) -> Iterator[tuple[_Asked, list[Source]]]:
        """Compare a group; gives what is to be looked at below it."""
        if len(members) == 1:
            yield asked, _below(members)
            return
        parts = [] if asked is _Asked.SHAPE else list(_meeting(members))
        self._left -= sum(map(len, parts))
        if not all(map(self._same, parts)):
            return
        if asked is not _Asked.SAME and not self._of_one_shape(members):
            return
        if len(parts) < 2:
            yield asked, _below(members)
            return
        if asked is _Asked.BOTH:
            yield _Asked.SHAPE, _below(members)
        for part in parts:
            yield _Asked.SAME, _below(part)

    def _of_one_shape(self, members: list[_Member]) -> bool:
        known = [one for one in members if one.type is not None]
        for other in known[1:]:
            if not _alike(known[0].type, other.type):
                reason = f"they return conflicting types '{known[0].type}' and '{other.type}'"
                return self._report(reason, known[0], other)
        return True

    def _same(self, members: list[_Member]) -> bool:
        first = members[0]
        wanted = self._signature(first.node)
        for other in members[1:]:
            found = self._signature(other.node)
            if found[0] != wanted[0]:
                reason = f"'{wanted[0]}' and '{found[0]}' are different fields"
                return self._report(reason, first, other)
            if found != wanted:
                return self._report("they have differing arguments", first, other)
        return True

    def _report(self, reason: str, first: _Member, other: _Member) -> bool:
        self._reported += 1
        node = first.node
        key = node.alias.value if node.alias else node.name.value
        message = (
            f"Fields '{key}' conflict because {reason}. Use different aliases on the fields to"
            " fetch both if this was intentional."
        )
        self.report_error(GraphQLError(message, [node, other.node]))
        return False

    def _signature(self, node: FieldNode) -> tuple[str, str]:
        """The field's name and its arguments, printed in one order."""
        found = self._signatures.get(id(node))
        if found is None:
            arguments = sorted(
                f"{one.name.value}:{print_ast(sort_value_node(one.value))}"
                for one in node.arguments or ()
            )
            found = self._signatures[id(node)] = (node.name.value, ",".join(arguments))
        return found

    def _type(self, parent: Any, name: str) -> Any:
        """The field's type; `__typename` has none here, as with graphql-core."""
        field = parent.fields.get(name) if hasattr(parent, "fields") else None
        return field.type if field is not None else None

    def _composite(self, name: str) -> Any:
        found = self.context.schema.get_type(name)
        return found if is_composite_type(found) else None


def _meeting(members: list[_Member]) -> Iterator[list[_Member]]:
    """Those that one object can have together: of abstract parents, and of each object type."""
    everywhere = [one for one in members if not is_object_type(one.parent)]
    by_type: dict[str, list[_Member]] = {}
    for one in members:
        if is_object_type(one.parent):
            by_type.setdefault(one.parent.name, []).append(one)
    if not by_type:
        yield everywhere
    for own in by_type.values():
        yield everywhere + own


def _below(members: list[_Member]) -> list[Source]:
    return [
        (one.node.selection_set, get_named_type(one.type) if one.type is not None else None)
        for one in members
        if one.node.selection_set is not None
    ]


def _alike(one: Any, other: Any) -> bool:
    """Whether values of both types can stand at one place of an answer."""
    while True:
        for wrapper in (GraphQLNonNull, GraphQLList):
            if isinstance(one, wrapper) or isinstance(other, wrapper):
                if not (isinstance(one, wrapper) and isinstance(other, wrapper)):
                    return False
                one, other = one.of_type, other.of_type
                break
        else:
            break
    return one is other or not (is_leaf_type(one) or is_leaf_type(other))
