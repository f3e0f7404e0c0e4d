"""What merging built, as the planner reads a supergraph: without printing and parsing it again."""

from collections.abc import Mapping
from functools import lru_cache

from graphql import FieldNode, GraphQLSchema, InlineFragmentNode, SelectionSetNode

from gateway.federation.composition.merged import Mark, Merged, MergedField, MergedType
from gateway.federation.composition.subgraph import Kind
from gateway.federation.supergraph import (
    Graph,
    GraphField,
    GraphType,
    Key,
    Supergraph,
    TypeKind,
    field_set,
)
from gateway.federation.supergraph import MergedType as PlannedType

_KINDS = {
    Kind.OBJECT: TypeKind.OBJECT,
    Kind.INTERFACE: TypeKind.INTERFACE,
    Kind.UNION: TypeKind.UNION,
}
_field_set = lru_cache(maxsize=4096)(field_set)
ROOTS = {"query": "Query", "mutation": "Mutation", "subscription": "Subscription"}


def as_supergraph(merged: Merged) -> Supergraph:
    """The supergraph that the printed SDL would be read as; its API schema is left empty."""
    types = {
        one.name: PlannedType(
            one.name,
            _KINDS.get(one.kind, TypeKind.LEAF),
            {field.name: field.type for field in one.fields.values()},
            frozenset(one.interfaces),
            frozenset(one.members),
        )
        for one in merged.types.values()
    }
    for planned in types.values():
        if planned.kind is TypeKind.OBJECT:
            for name in planned.interfaces:
                types[name].possible |= {planned.name}
    views = _views(merged)
    return Supergraph(
        sdl="",
        graphs={name: Graph(name, url, enum) for name, (enum, url) in merged.graphs.items()},
        views={name: views[enum] for name, (enum, _) in merged.graphs.items()},
        types=types,
        roots={kind: name for kind, name in ROOTS.items() if name in types},
        api_schema=GraphQLSchema(),
        labels=frozenset(
            str(mark.arguments["overrideLabel"])
            for one in merged.types.values()
            for field in one.fields.values()
            for mark in field.marks
            if mark.name == "join__field" and "overrideLabel" in mark.arguments
        ),
    )


def _views(merged: Merged) -> dict[str, dict[str, GraphType]]:
    """All types as each subgraph has them, by the enum values of the subgraphs."""
    views: dict[str, dict[str, GraphType]] = {enum: {} for enum, _ in merged.graphs.values()}
    for one in merged.types.values():
        here = _types(one)
        for enum, found in here.items():
            views[enum][one.name] = found
        for field in one.fields.values():
            _spread(field, here)
    for view in views.values():
        _complete(view)
    return views


def _types(one: MergedType) -> dict[str, GraphType]:
    """A type in each subgraph that has it, its fields left out."""
    entries: dict[str, list[Mark]] = {}
    listed: dict[tuple[str, str], set[str]] = {}
    for mark in one.marks:
        enum = str(mark.arguments.get("graph"))
        if mark.name == "join__type":
            entries.setdefault(enum, []).append(mark)
        elif mark.name in _LISTED:
            given = str(mark.arguments[_LISTED[mark.name]])
            listed.setdefault((mark.name, enum), set()).add(given)
    found = {}
    for enum, marks in entries.items():
        stands = any(mark.arguments.get("isInterfaceObject") is True for mark in marks)
        implemented = listed.get(("join__implements", enum), ()) if not stands else ()
        found[enum] = GraphType(
            one.name,
            TypeKind.OBJECT if stands else _KINDS.get(one.kind, TypeKind.LEAF),
            keys=tuple(_key(mark) for mark in marks if mark.arguments.get("key") is not None),
            interface_object=stands,
            extension=any(mark.arguments.get("extension") is True for mark in marks),
            interfaces=frozenset(implemented),
            possible=frozenset(listed.get(("join__unionMember", enum), ())),
        )
    return found


_LISTED = {"join__implements": "interface", "join__unionMember": "member"}


def _key(mark: Mark) -> Key:
    text = str(mark.arguments["key"])
    return Key(text, _field_set(text), mark.arguments.get("resolvable") is not False)


def _spread(field: MergedField, here: Mapping[str, GraphType]) -> None:
    """A field in the subgraphs that have it: without `join__field`, all that have the type."""
    joined = [mark for mark in field.marks if mark.name == "join__field"]
    if not joined:
        plain = GraphField(field.name, field.type)
        for definition in here.values():
            definition.fields[field.name] = plain
    for mark in joined:
        enum = mark.arguments.get("graph")
        if enum is not None:
            here[str(enum)].fields[field.name] = _field(field.name, field.type, mark)


def _complete(view: Mapping[str, GraphType]) -> None:
    """The objects of interfaces; what an extension's keys select is had where the key is."""
    for here in view.values():
        if here.kind is TypeKind.OBJECT and not here.interface_object:
            for name in here.interfaces:
                if name in view:
                    view[name].possible |= {here.name}
    for here in view.values():
        for key in here.keys if here.extension else ():
            _know(view, here, key.fields)


def _know(view: Mapping[str, GraphType], here: GraphType, selected: SelectionSetNode) -> None:
    for node in selected.selections:
        if isinstance(node, InlineFragmentNode):
            on = node.type_condition.name.value if node.type_condition else here.name
            if on in view:
                _know(view, view[on], node.selection_set)
        elif isinstance(node, FieldNode) and node.name.value in here.fields:
            known = here.fields[node.name.value]
            if known.external:
                known = here.fields[known.name] = GraphField(known.name, known.type)
            if node.selection_set and known.named in view:
                _know(view, view[known.named], node.selection_set)


def _field(name: str, written: str, mark: Mark) -> GraphField:
    given = mark.arguments

    def text(argument: str) -> str | None:
        value = given.get(argument)
        return str(value) if value is not None else None

    requires, provides = text("requires"), text("provides")
    return GraphField(
        name,
        text("type") or written,
        external=given.get("external") is True,
        used_overridden=given.get("usedOverridden") is True,
        requires=_field_set(requires) if requires else None,
        provides=_field_set(provides) if provides else None,
        override=text("override"),
        label=text("overrideLabel"),
    )
