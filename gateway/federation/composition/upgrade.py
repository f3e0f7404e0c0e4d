"""Documents of version 1, brought to what they mean in version 2.

Version 1 marked as external what an extension's key needs, left unused externals standing, let
every subgraph resolve what it declares, and put directives where they had no effect. Version 2
says the same with less: this module drops what meant nothing and says openly what was implied.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from graphql import (
    ConstArgumentNode,
    ConstDirectiveNode,
    FieldNode,
    InlineFragmentNode,
    NameNode,
    SelectionNode,
    SelectionSetNode,
    StringValueNode,
    print_ast,
)

from gateway.federation.composition import fieldsets, specs
from gateway.federation.composition.fieldsets import FieldSetRefused, Selected
from gateway.federation.composition.reading import ROOTS, is_federation
from gateway.federation.composition.rules_fieldsets import sites, used_fields
from gateway.federation.composition.rules_usage import fields_of, satisfies_interface
from gateway.federation.composition.subgraph import (
    Applied,
    Kind,
    OutputField,
    Subgraph,
    TypeDefinition,
)
from gateway.federation.composition.types import COMPOSITE_KINDS, Types, base
from gateway.federation.errors import CompositionError

Errors = Iterator[CompositionError]
_FIELD_SETS = ("key", "requires", "provides")


def upgrade(subgraphs: Sequence[Subgraph]) -> Mapping[str, list[CompositionError]]:
    """Change the subgraphs of version 1 in place; errors by subgraph's name.

    A subgraph with errors is left half changed: it is not to be used.
    """
    errors: dict[str, list[CompositionError]] = {}
    old = [subgraph for subgraph in subgraphs if subgraph.version == specs.VERSION_ONE]
    keys = _keys_by_type(subgraphs)
    baseless = {each.name: list(_without_base(each, subgraphs)) for each in old}
    for subgraph in old:
        found = baseless[subgraph.name]
        _join_field_lists(subgraph)
        _drop_idle_marks(subgraph)
        _own_keys(subgraph, keys)
        _drop_inactive(subgraph)
        found += _drop_unused(subgraph)
        _settle(subgraph, _elsewhere(subgraph, subgraphs))
        if found:
            errors[subgraph.name] = found
    for subgraph in old:
        _drop_repeated_tags(subgraph, subgraphs)
    return errors


def _keys_by_type(subgraphs: Sequence[Subgraph]) -> dict[str, list[tuple[str, str]]]:
    """(subgraph, field set) of every key that stands on a definition, by type."""
    found: dict[str, list[tuple[str, str]]] = {}
    for subgraph in subgraphs:
        for definition in subgraph.types.values():
            for applied in definition.directives:
                fields = _joined(applied.arguments.get("fields"))
                if is_federation(applied, "key") and fields is not None:
                    found.setdefault(definition.name, []).append((subgraph.name, fields))
    return found


def _without_base(subgraph: Subgraph, subgraphs: Sequence[Subgraph]) -> Errors:
    """Extensions of what no other subgraph defines; root types need no definition.

    What `@extends` marks is an extension here, and yet a definition for all others.
    """
    roots = _roots(subgraph)
    for definition in subgraph.types.values():
        if definition.name in roots or not (definition.extension or _marked(definition)):
            continue
        others = (other.types.get(definition.name) for other in subgraphs if other is not subgraph)
        if all(other is None or other.extension for other in others):
            yield CompositionError(
                "EXTENSION_WITH_NO_BASE",
                f'Type "{definition.name}" is an extension type, but there is no type definition'
                f' for "{definition.name}" in any subgraph.',
            )


def _roots(subgraph: Subgraph) -> set[str | None]:
    return {subgraph.query, subgraph.mutation, subgraph.subscription, *ROOTS.values()}


def _joined(value: object) -> str | None:
    """`fields` as one text: version 1 allowed lists, and names without quotes."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return " ".join(value)
    return None


def _with_fields(applied: Applied, fields: str) -> None:
    """Replace a directive's field set."""
    assert applied.node is not None
    argument = ConstArgumentNode(name=NameNode(value="fields"), value=StringValueNode(value=fields))
    others = tuple(each for each in applied.node.arguments or () if each.name.value != "fields")
    applied.node = ConstDirectiveNode(name=applied.node.name, arguments=(argument, *others))
    applied.arguments["fields"] = fields


def _join_field_lists(subgraph: Subgraph) -> None:
    for definition in subgraph.types.values():
        places = [
            definition.directives,
            *(field.directives for field in definition.fields.values()),
        ]
        for applied in (each for directives in places for each in directives):
            if applied.identity is not None and applied.name in _FIELD_SETS:
                fields = _joined(applied.arguments.get("fields"))
                if fields is not None:
                    _with_fields(applied, fields)


def _drop_idle_marks(subgraph: Subgraph) -> None:
    """Directives on interfaces had no effect, nor had `@external` on a whole type."""
    for definition in subgraph.types.values():
        interface = definition.kind is Kind.INTERFACE
        idle = {"external", "key"} if interface else {"external"}
        whole = any(is_federation(each, "external") for each in definition.directives)
        definition.directives = _without(definition.directives, idle)
        for field in definition.fields.values():
            if interface:
                field.directives = _without(field.directives, {"external", "requires", "provides"})
                field.external = False
            elif whole:
                field.external = any(is_federation(each, "external") for each in field.directives)


def _without(applied: list[Applied], names: set[str]) -> list[Applied]:
    return [each for each in applied if each.identity is None or each.name not in names]


def _not_external(field: OutputField) -> None:
    field.external = False
    field.directives = _without(field.directives, {"external"})


def _own_keys(subgraph: Subgraph, keys: Mapping[str, list[tuple[str, str]]]) -> None:
    """What an extension's key selects of the type itself is resolved here, `@external` or not.

    An extension without a key has the keys of the type's definitions in other subgraphs.
    """
    for definition in subgraph.types.values():
        own = [each for each in definition.directives if is_federation(each, "key")]
        fields = [str(each.arguments.get("fields")) for each in own if each.extended]
        if not own and (definition.extension or _marked(definition)):
            fields = [
                given for name, given in keys.get(definition.name, ()) if name != subgraph.name
            ]
        for given in fields:
            for name in _top_fields(given):
                if name in definition.fields:
                    _not_external(definition.fields[name])


def _marked(definition: TypeDefinition) -> bool:
    """Whether `@extends` makes a definition an extension."""
    return any(is_federation(each, "extends") for each in definition.directives)


def _top_fields(written: str) -> list[str]:
    try:
        selection = fieldsets.parse_field_set(written)
    except FieldSetRefused:
        return []
    return [node.name.value for node in selection.selections if isinstance(node, FieldNode)]


def _drop_inactive(subgraph: Subgraph) -> None:
    """`@requires` and `@provides` of what is resolved here anyway."""
    types = subgraph.types
    for definition in types.values():
        for field in definition.fields.values():
            below = types.get(base(field.type))
            if below is None or below.kind not in COMPOSITE_KINDS:
                field.directives = _without(field.directives, {"provides"})
    dropped: set[int] = set()
    for site in sites(subgraph, keys=False):
        fields = site.applied.arguments.get("fields")
        if not isinstance(fields, str):
            continue
        kept = _active(types, site.parent, fields)
        if kept is None:
            dropped.add(id(site.applied))
        elif kept != fields:
            _with_fields(site.applied, kept)
    for _, field, _ in fields_of(subgraph):
        field.directives = [each for each in field.directives if id(each) not in dropped]


def _active(types: Types, parent: TypeDefinition, fields: str) -> str | None:
    """A field set without what is not external, None when nothing is left."""
    try:
        selection = fieldsets.parse_field_set(fields)
    except FieldSetRefused:
        return fields
    walked = list(fieldsets.walk(types, parent.name, selection))
    if any(not isinstance(found, Selected) for found in walked):
        return fields
    active = {
        id(found.node)
        for found in walked
        if isinstance(found, Selected)
        and (
            (found.field is not None and found.field.external)
            or any(above.external for above in found.above)
        )
    }
    leaves = [found for found in walked if isinstance(found, Selected) and found.leaf]
    if all(id(found.node) in active for found in leaves):
        return fields
    kept = _prune(selection, active)
    return None if kept is None else " ".join(print_ast(node) for node in kept.selections)


def _prune(selection: SelectionSetNode, active: set[int]) -> SelectionSetNode | None:
    kept: list[SelectionNode] = []
    for node in selection.selections:
        if isinstance(node, FieldNode) and node.selection_set is None:
            if id(node) in active:
                kept.append(node)
        elif isinstance(node, FieldNode | InlineFragmentNode) and node.selection_set is not None:
            inner = _prune(node.selection_set, active)
            if inner is not None:
                kept.append(_replaced(node, inner))
    return SelectionSetNode(selections=tuple(kept)) if kept else None


def _replaced(node: FieldNode | InlineFragmentNode, inner: SelectionSetNode) -> SelectionNode:
    if isinstance(node, FieldNode):
        return FieldNode(
            alias=node.alias,
            name=node.name,
            arguments=node.arguments,
            directives=node.directives,
            selection_set=inner,
        )
    return InlineFragmentNode(
        type_condition=node.type_condition, directives=node.directives, selection_set=inner
    )


def _drop_unused(subgraph: Subgraph) -> Errors:
    """External fields nothing uses, and the types that had nothing else."""
    used = used_fields(subgraph)
    emptied: list[str] = []
    for definition in subgraph.types.values():
        idle = [
            field.name
            for field in definition.fields.values()
            if field.external
            and (definition.name, field.name) not in used
            and not satisfies_interface(subgraph, definition, field)
        ]
        for name in idle:
            del definition.fields[name]
        if idle and not definition.fields and definition.name != subgraph.query:
            emptied.append(definition.name)
    referenced = _referenced(subgraph)
    for name in emptied:
        if name in referenced:
            yield CompositionError(
                "TYPE_WITH_ONLY_UNUSED_EXTERNAL",
                f"Type {name} contains only external fields and all those fields are all unused"
                " (they do not appear in any @key, @provides or @requires).",
            )
        else:
            del subgraph.types[name]


def _referenced(subgraph: Subgraph) -> set[str]:
    found = {subgraph.query, subgraph.mutation, subgraph.subscription}
    for definition in subgraph.types.values():
        found |= {base(field.type) for field in definition.fields.values()}
        found |= set(definition.members)
    return {name for name in found if name is not None}


def _settle(subgraph: Subgraph, elsewhere: Callable[[str, str], bool]) -> None:
    """Extensions become definitions; what is resolved elsewhere too was always shared."""
    for definition in subgraph.types.values():
        if definition.extension:
            definition.extension = False
            for applied in definition.directives:
                applied.extended = _marked(definition)
        if definition.kind is Kind.OBJECT and definition.name != subgraph.subscription:
            for field in definition.fields.values():
                field.shareable |= elsewhere(definition.name, field.name)


def _elsewhere(subgraph: Subgraph, subgraphs: Sequence[Subgraph]) -> Callable[[str, str], bool]:
    """Whether another subgraph has a type's field; root types go by their operations."""

    def answer(type_name: str, field: str) -> bool:
        return any(
            field in other.types[name].fields
            for other in subgraphs
            if other is not subgraph
            for name in (_same_type(subgraph, other, type_name),)
            if name in other.types
        )

    return answer


def _same_type(subgraph: Subgraph, other: Subgraph, name: str) -> str:
    """What another subgraph calls a type: the same, unless it is a root."""
    pairs = (
        (subgraph.query, other.query),
        (subgraph.mutation, other.mutation),
        (subgraph.subscription, other.subscription),
    )
    for own, theirs in pairs:
        if own == name:
            return theirs or name
    return name


def _drop_repeated_tags(subgraph: Subgraph, subgraphs: Sequence[Subgraph]) -> None:
    """A tag on an external field that the field has where it is resolved."""
    for definition, field, _ in fields_of(subgraph):
        if not field.external:
            continue
        elsewhere: set[object] = set()
        for other in subgraphs:
            same = other.types.get(definition.name)
            resolved = same.fields.get(field.name) if same is not None else None
            if resolved is not None and not resolved.external:
                elsewhere |= set(_tags(resolved))
        field.directives = [
            each
            for each in field.directives
            if not is_federation(each, "tag") or each.arguments.get("name") not in elsewhere
        ]


def _tags(field: OutputField) -> Iterator[object]:
    for applied in field.directives:
        if is_federation(applied, "tag"):
            yield applied.arguments.get("name")
