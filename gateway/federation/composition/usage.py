"""What a subgraph says of its fields: external, provided, shareable, used by its own directives."""

from dataclasses import dataclass, field
from functools import lru_cache

from graphql import (
    FieldNode,
    GraphQLSyntaxError,
    InlineFragmentNode,
    SelectionSetNode,
    parse,
)

from gateway.federation.composition.merged import base_name, type_text
from gateway.federation.composition.subgraph import Applied, Kind, OutputField, Subgraph

Place = tuple[str, str]  # type name, field name


@dataclass(slots=True)
class Usage:
    """Facts about the fields of one subgraph."""

    provided: set[Place] = field(default_factory=set)
    used: set[Place] = field(default_factory=set)

    def fully_external(self, parent: str, source: OutputField) -> bool:
        """Never resolved here: external, and no `@provides` gives it."""
        return source.external and (parent, source.name) not in self.provided


class _Walk:
    """Marks the fields that field sets name."""

    def __init__(self, subgraph: Subgraph) -> None:
        self.types = subgraph.types
        self.implementers: dict[str, list[str]] = {}
        for definition in subgraph.types.values():
            if definition.kind is Kind.OBJECT:
                for interface in definition.interfaces:
                    self.implementers.setdefault(interface, []).append(definition.name)

    def mark(self, parent: str, text: object, into: set[Place]) -> None:
        """Add every field that a field set selects; a broken set adds nothing."""
        if not isinstance(text, str):
            return
        selection = parse_set(text)
        if selection is not None:
            self._walk(parent, selection, into)

    def _walk(self, parent: str, selection: SelectionSetNode, into: set[Place]) -> None:
        pending = [(parent, selection)]
        while pending:
            name, current = pending.pop()
            definition = self.types.get(name)
            if definition is None:
                continue
            for node in current.selections:
                if isinstance(node, InlineFragmentNode):
                    condition = node.type_condition
                    inner = condition.name.value if condition else name
                    pending.append((inner, node.selection_set))
                elif isinstance(node, FieldNode) and node.name.value in definition.fields:
                    self._add(definition.name, node.name.value, into)
                    if node.selection_set:
                        source = definition.fields[node.name.value]
                        pending.append((base_name(type_text(source.type)), node.selection_set))

    def _add(self, parent: str, name: str, into: set[Place]) -> None:
        into.add((parent, name))
        if self.types[parent].kind is Kind.INTERFACE:
            for implementer in self.implementers.get(parent, ()):
                if name in self.types[implementer].fields:
                    into.add((implementer, name))


def extension_keys(subgraph: Subgraph) -> set[Place]:
    """The fields that keys on extensions select: `@external` on them says nothing."""
    walk, found = _Walk(subgraph), set[Place]()
    for definition in subgraph.types.values():
        for key in _all(definition.directives, "key"):
            if key.extended:
                walk.mark(definition.name, key.arguments.get("fields"), found)
    return found


@lru_cache(maxsize=1024)
def parse_set(text: str) -> SelectionSetNode | None:
    """A field set as a selection, None if it is none."""
    inner = text.strip()
    try:
        document = parse(inner if inner.startswith("{") else f"{{{inner}}}", no_location=True)
    except (GraphQLSyntaxError, RecursionError):
        return None
    node = document.definitions[0]
    selection = getattr(node, "selection_set", None)
    return selection if isinstance(selection, SelectionSetNode) else None


def usage_of(subgraph: Subgraph) -> Usage:
    """Walk the field sets of a subgraph."""
    walk, usage = _Walk(subgraph), Usage()
    for definition in subgraph.types.values():
        for key in _all(definition.directives, "key"):
            walk.mark(definition.name, key.arguments.get("fields"), usage.used)
        for source in definition.fields.values():
            for requires in _all(source.directives, "requires"):
                walk.mark(definition.name, requires.arguments.get("fields"), usage.used)
            for provides in _all(source.directives, "provides"):
                target = base_name(type_text(source.type))
                walk.mark(target, provides.arguments.get("fields"), usage.provided)
        if definition.kind is Kind.INTERFACE:
            for name in definition.fields:
                for implementer in walk.implementers.get(definition.name, ()):
                    if name in subgraph.types[implementer].fields:
                        usage.used.add((implementer, name))
    usage.used |= usage.provided
    return usage


def _all(directives: list[Applied], name: str) -> list[Applied]:
    return [applied for applied in directives if applied.name == name]
