"""Merging valid subgraphs into one schema: the second stage of composition.

`merge` takes the subgraphs in any order and works in the order of their names. All that is wrong
between subgraphs is reported together; the result only stands where nothing is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from graphql import ListTypeNode, NamedTypeNode, NameNode, NonNullTypeNode, TypeNode

from gateway.federation.composition.auth import spread_access
from gateway.federation.composition.composed import merge_composed
from gateway.federation.composition.directives import merge_executable
from gateway.federation.composition.features import add_features
from gateway.federation.composition.fields import check_sharing
from gateway.federation.composition.joined import add_joined_links, join_marks
from gateway.federation.composition.kinds import (
    check_interface_objects,
    merge_fields,
    merge_head,
    merge_inputs,
    merge_values,
)
from gateway.federation.composition.marks import merge_description, merge_marks
from gateway.federation.composition.merged import (
    Mark,
    Merged,
    MergedField,
    MergedType,
    TooLarge,
    base_name,
    element,
)
from gateway.federation.composition.names import graph_names
from gateway.federation.composition.overrides import Overrides
from gateway.federation.composition.state import APOLLO, State, is_interface_object, who_says_what
from gateway.federation.composition.subgraph import (
    Kind,
    Subgraph,
    TypeDefinition,
)
from gateway.federation.composition.usage import extension_keys, usage_of

MOST_COPIES = 100_000
"""Fields that interface objects give to implementations; the product of two numbers."""

ROOTS = ("Query", "Mutation", "Subscription")
JOIN_VERSIONS = (((2, 8), (0, 5)), ((2, 7), (0, 4)))


def merge(subgraphs: Sequence[Subgraph]) -> State:
    """Merge; `state.errors` says why the result does not stand, `state.merged` is it."""
    ordered = [_rooted(subgraph) for subgraph in sorted(subgraphs, key=lambda one: one.name)]
    newest = max((_needed_version(subgraph) for subgraph in ordered), default=(1, 0))
    join = next((join for least, join in JOIN_VERSIONS if newest >= least), (0, 3))
    merged = Merged(graph_names(ordered), join)
    state = State(ordered, [usage_of(subgraph) for subgraph in ordered], merged)
    _hint_upgrades(state)
    add_features(state)
    merge_composed(state)
    if state.errors:
        return state
    state.errors += state.later
    merged.description = merge_description(
        state, {i: subgraph.description for i, subgraph in enumerate(ordered)}, "schema"
    )
    merged.marks = merge_marks(
        state, {i: subgraph.schema_directives for i, subgraph in enumerate(ordered)}, "schema"
    )
    merged.marks += join_marks(
        state, {i: subgraph.schema_directives for i, subgraph in enumerate(ordered)}
    )
    shells = _shells(state)
    for shell in shells:
        merge_head(state, shell, state.definers[shell.name])
        _note_subtypes(state, shell)
    _note_enums_of_directives(state)
    for shell in shells:
        _merge_body(state, shell)
    merge_executable(state)
    for shell in shells:
        if shell.kind is Kind.ENUM:
            merge_values(state, shell, state.definers[shell.name])
    _add_abstracted_fields(state)
    spread_access(state)
    add_joined_links(state)
    if not merged.types.get("Query") or not merged.types["Query"].fields:
        state.error("NO_QUERIES", "No subgraph has a query: a supergraph needs one")
    return state


def _hint_upgrades(state: State) -> None:
    for index, subgraph in enumerate(state.subgraphs):
        needed = _needed_version(subgraph)
        if needed > subgraph.version:
            versions = [f"v{major}.{minor}" for major, minor in (subgraph.version, needed)]
            message = f"Specs linked beside federation need {versions[1]}, not {versions[0]}"
            state.hint("IMPLICITLY_UPGRADED_FEDERATION_VERSION", message, [index])


def _needed_version(subgraph: Subgraph) -> tuple[int, int]:
    """Federation's version, raised to that of the specs linked beside it."""
    linked = [_SPEC_VERSIONS.get(link.identity, (1, 0)) for link in subgraph.links]
    return max(subgraph.version, *linked) if linked else subgraph.version


_SPEC_VERSIONS = {f"{APOLLO}cost": (2, 9)}


def _shells(state: State) -> list[MergedType]:
    for index, subgraph in enumerate(state.subgraphs):
        for name, definition in subgraph.types.items():
            state.definers.setdefault(name, {})[index] = definition
    shells = []
    for name, definers in state.definers.items():
        kinds = {
            index: Kind.INTERFACE if is_interface_object(definition) else definition.kind
            for index, definition in definers.items()
        }
        kind = next(iter(kinds.values()))
        if any(other is not kind for other in kinds.values()):
            words = who_says_what(state, {i: f"it is {k.value}" for i, k in kinds.items()})
            message = f"{element(name)} has several kinds: {words}"
            state.error("TYPE_KIND_MISMATCH", message, kinds)
            state.definers[name] = _of_kind(definers, kind)
        if kind is Kind.INTERFACE:
            _note_interface_object(state, name)
        if name not in ROOTS and all(definition.extension for definition in definers.values()):
            for index in definers:
                message = f"Type {element(name)} is extended but defined in no subgraph"
                state.error("EXTENSION_WITH_NO_BASE", message, [index])
        shell = MergedType(name, kind)
        state.merged.types[name] = shell
        shells.append(shell)
    return shells


def _note_interface_object(state: State, name: str) -> None:
    definers = state.definers[name]
    standing = [index for index, one in definers.items() if one.kind is Kind.OBJECT]
    if standing:
        state.interface_objects.add(name)
    if len(standing) == len(definers):
        message = f"{element(name)} is an @interfaceObject everywhere, an interface nowhere"
        state.error("INTERFACE_OBJECT_USAGE_ERROR", message, definers)


def _of_kind(definers: Mapping[int, TypeDefinition], kind: Kind) -> dict[int, TypeDefinition]:
    """The definitions with empty ones in place of those of another kind."""
    return {
        index: definition
        if definition.kind is kind or (kind is Kind.INTERFACE and is_interface_object(definition))
        else TypeDefinition(definition.name, kind)
        for index, definition in definers.items()
    }


def _note_subtypes(state: State, shell: MergedType) -> None:
    for interface in shell.interfaces:
        state.subtypes.setdefault(interface, set()).add(shell.name)
    if shell.members:
        state.subtypes.setdefault(shell.name, set()).update(shell.members)


def _note_enums_of_directives(state: State) -> None:
    for directive in state.merged.directives.values():
        for argument in directive.arguments.values():
            used = state.merged.types.get(base_name(argument.type))
            if used is not None and used.kind is Kind.ENUM:
                path = f"@{directive.name}({argument.name}:)"
                state.used_enum(used.name, path, output=False)


def _merge_body(state: State, shell: MergedType) -> None:
    definers = state.definers[shell.name]
    if shell.kind in (Kind.OBJECT, Kind.INTERFACE):
        merge_fields(state, shell, definers)
    if shell.kind is Kind.INTERFACE:
        check_interface_objects(state, shell, definers)
    if shell.kind is Kind.INPUT:
        merge_inputs(state, shell, definers)


def _add_abstracted_fields(state: State) -> None:
    """Fields of interface objects exist on all implementations, resolved by no graph directly."""
    copied = 0
    for name in state.interface_objects:
        interface = state.merged.types[name]
        standing = [d for d in state.definers[name].values() if d.kind is Kind.OBJECT]
        names = [field for field in interface.fields if any(field in d.fields for d in standing)]
        for implementer in sorted(state.subtypes.get(name, ())):
            target = state.merged.types[implementer]
            if target.kind is not Kind.OBJECT:
                continue
            for field_name in names:
                if field_name not in target.fields:
                    copied += 1
                    if copied > MOST_COPIES:
                        raise TooLarge(f"more than {MOST_COPIES} fields from interface objects")
                    target.fields[field_name] = _abstracted(interface.fields[field_name])
                    check_sharing(state, target, field_name, {}, Overrides())


def _abstracted(source: MergedField) -> MergedField:
    marks = [mark for mark in source.marks if not mark.name.startswith("join__")]
    arguments = {
        name: replace(argument, marks=list(argument.marks))
        for name, argument in source.arguments.items()
    }
    marks.insert(0, Mark("join__field"))
    return replace(source, arguments=arguments, marks=marks)


def _rooted(subgraph: Subgraph) -> Subgraph:
    """The subgraph with root types under their usual names, and a Query (it can be asked)."""
    own = {"Query": subgraph.query, "Mutation": subgraph.mutation}
    own["Subscription"] = subgraph.subscription
    renamed = {old: new for new, old in own.items() if old and old != new}
    types = subgraph.types
    if renamed:
        types = {
            renamed.get(name, name): _renamed(definition, renamed)
            for name, definition in types.items()
        }
    types = _with_extension_keys(subgraph, types)
    if "Query" not in types:
        types = {**types, "Query": TypeDefinition("Query", Kind.OBJECT)}
    return replace(subgraph, types=types)


def _with_extension_keys(
    subgraph: Subgraph, types: dict[str, TypeDefinition]
) -> dict[str, TypeDefinition]:
    """The types with `@external` taken from what keys on extensions select."""
    changed = dict(types)
    for type_name, field_name in extension_keys(subgraph):
        definition = changed.get(type_name)
        if definition is not None and definition.fields[field_name].external:
            own = replace(definition.fields[field_name], external=False)
            fields = {**definition.fields, field_name: own}
            changed[type_name] = replace(definition, fields=fields)
    return changed


def _renamed(definition: TypeDefinition, renamed: Mapping[str, str]) -> TypeDefinition:
    fields = {
        name: replace(source, type=_renamed_type(source.type, renamed))
        for name, source in definition.fields.items()
    }
    return replace(
        definition,
        name=renamed.get(definition.name, definition.name),
        fields=fields,
        members=[renamed.get(name, name) for name in definition.members],
    )


def _renamed_type(node: TypeNode, renamed: Mapping[str, str]) -> TypeNode:
    if isinstance(node, NonNullTypeNode):
        inner = _renamed_type(node.type, renamed)
        assert isinstance(inner, NamedTypeNode | ListTypeNode)
        return NonNullTypeNode(type=inner)
    if isinstance(node, ListTypeNode):
        return ListTypeNode(type=_renamed_type(node.type, renamed))
    assert isinstance(node, NamedTypeNode)
    new = renamed.get(node.name.value)
    return node if new is None else NamedTypeNode(name=NameNode(value=new))
