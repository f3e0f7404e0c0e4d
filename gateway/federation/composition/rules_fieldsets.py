"""Rules on `@key`, `@requires` and `@provides`, each with the code other tools give it too."""

from collections.abc import Iterator
from dataclasses import dataclass

from graphql import ConstArgumentNode, StringValueNode, print_ast

from gateway.federation.composition import fieldsets
from gateway.federation.composition.fieldsets import FieldSetRefused, Problem, Selected
from gateway.federation.composition.reading import is_federation
from gateway.federation.composition.subgraph import (
    Applied,
    Kind,
    OutputField,
    Subgraph,
    TypeDefinition,
)
from gateway.federation.composition.types import COMPOSITE_KINDS, base, possible_types, text
from gateway.federation.errors import CompositionError

Errors = Iterator[CompositionError]
KEY_ON_INTERFACES = (2, 3)
_KINDS = {Kind.UNION: "Union", Kind.INTERFACE: "Interface"}


@dataclass(frozen=True, slots=True)
class Site:
    """A field set where it is written: which directive, on what, read on which type."""

    applied: Applied
    on: str
    parent: TypeDefinition

    @property
    def directive(self) -> str:
        """The directive's canonical name."""
        return self.applied.name

    def error(self, code: str, message: str) -> CompositionError:
        """An error of this field set; `code` without the directive's name."""
        value = _written(self.applied)
        return CompositionError(
            f"{self.directive.upper()}_{code}",
            f"{self.on}, for @{self.directive}(fields: {value}): {message}",
        )


def _written(applied: Applied) -> str:
    assert applied.node is not None
    given: ConstArgumentNode
    for given in applied.node.arguments or ():
        if given.name.value == "fields":
            return print_ast(given.value)
    return ""


def sites(subgraph: Subgraph, *, keys: bool = True) -> Iterator[Site]:
    """All field sets of a subgraph whose type has fields; keys first."""
    types = subgraph.types
    for definition in types.values() if keys else ():
        for applied in definition.directives:
            if is_federation(applied, "key"):
                yield Site(applied, f'On type "{definition.name}"', definition)
    for name in ("requires", "provides"):
        for definition in types.values():
            for field in definition.fields.values():
                for applied in field.directives:
                    if not is_federation(applied, name):
                        continue
                    parent = definition if name == "requires" else types.get(base(field.type))
                    if parent is not None:
                        on = f'On field "{definition.name}.{field.name}"'
                        yield Site(applied, on, parent)


def impossible_provides(subgraph: Subgraph) -> Errors:
    """`@provides` where nothing can be provided; nothing else can be judged then."""
    for definition in subgraph.types.values():
        for field in definition.fields.values():
            if not any(is_federation(applied, "provides") for applied in field.directives):
                continue
            where = f'"{definition.name}.{field.name}"'
            below = subgraph.types.get(base(field.type))
            if field.external:
                yield CompositionError(
                    "EXTERNAL_COLLISION_WITH_ANOTHER_DIRECTIVE",
                    f"Cannot have both @provides and @external on field {where}",
                )
            elif below is None or below.kind not in COMPOSITE_KINDS:
                yield CompositionError(
                    "PROVIDES_ON_NON_OBJECT_FIELD",
                    f"Invalid @provides directive on field {where}: field"
                    f' has type "{text(field.type)}" which is not a composite type',
                )


def field_sets(subgraph: Subgraph, directives: frozenset[str]) -> Errors:
    """All rules on field sets. `directives` are the names defined in the document."""
    yield from _on_interfaces(subgraph)
    for site in sites(subgraph):
        yield from _check(subgraph, site, directives)
    yield from _interface_keys(subgraph)


def _on_interfaces(subgraph: Subgraph) -> Errors:
    for definition in subgraph.types.values():
        if definition.kind is not Kind.INTERFACE:
            continue
        if subgraph.version < KEY_ON_INTERFACES:
            for applied in definition.directives:
                if is_federation(applied, "key"):
                    yield CompositionError(
                        "KEY_UNSUPPORTED_ON_INTERFACE",
                        f'Cannot use @key on interface "{definition.name}":'
                        " @key is not yet supported on interfaces",
                    )
        for field in definition.fields.values():
            for applied in field.directives:
                if is_federation(applied, "requires") or is_federation(applied, "provides"):
                    yield CompositionError(
                        f"{applied.name.upper()}_UNSUPPORTED_ON_INTERFACE",
                        f'Cannot use @{applied.name} on field "{definition.name}.{field.name}":'
                        f" @{applied.name} is not yet supported within interfaces",
                    )


def _check(subgraph: Subgraph, site: Site, directives: frozenset[str]) -> Errors:
    """One field set: what makes it unreadable alone, or else all that is wrong with it."""
    assert site.applied.node is not None
    value = next(
        (each.value for each in site.applied.node.arguments or () if each.name.value == "fields"),
        None,
    )
    if not isinstance(value, StringValueNode):
        yield site.error(
            "INVALID_FIELDS_TYPE", 'Invalid value for argument "fields": must be a string.'
        )
        return
    try:
        selection = fieldsets.parse_field_set(value.value)
    except FieldSetRefused as problem:
        yield site.error("INVALID_FIELDS", str(problem))
        return
    found: list[Problem] = []
    for walked in fieldsets.walk(subgraph.types, site.parent.name, selection, directives):
        problems = _selected(subgraph, site, walked) if isinstance(walked, Selected) else [walked]
        for one in problems:
            if one.code in _ALONE and not one.late:
                yield site.error(one.code, one.message + _advice(site, one.message))
                return
        found += problems
    late = [each for each in found if each.late]
    for one in dict.fromkeys(late[:1] or found):
        yield site.error(one.code, one.message)


_ALONE = {fieldsets.INVALID, "FIELDS_SELECT_INVALID_TYPE"}


def _advice(site: Site, message: str) -> str:
    if not message.startswith("Cannot query field"):
        return ""
    if site.directive == "key":
        return (
            " (the field should either be added to this subgraph or, if it should not be resolved"
            " by this subgraph, you need to add it to this subgraph with @external)."
        )
    return (
        " (if the field is defined in another subgraph,"
        " you need to add it to this subgraph with @external)."
    )


def _selected(subgraph: Subgraph, site: Site, found: Selected) -> list[Problem]:
    """What a directive's field set may not select."""
    problems = list(_never_a_key(subgraph, site, found)) if site.directive == "key" else []
    field = found.field
    if site.directive != "requires" and field is not None and field.arguments:
        text_ = (
            f"field {found.coordinate} cannot be included because it has arguments"
            f" (fields with argument are not allowed in @{site.directive})"
        )
        problems.append(Problem("FIELDS_HAS_ARGS", text_))
    resolved = not any(above.external for above in found.above) and (
        field is None or not field.external
    )
    if site.directive != "key" and found.leaf and resolved:
        text_ = (
            f'field "{found.coordinate}" should not be part of a @{site.directive} since it is'
            " already provided by this subgraph (it is not marked @external)"
        )
        problems.append(Problem("FIELDS_MISSING_EXTERNAL", text_))
    return problems


def _never_a_key(subgraph: Subgraph, site: Site, found: Selected) -> Iterator[Problem]:
    """Fields of other types, and fields whose value has no one type."""
    if not found.above and not _meets(subgraph, site.parent.name, found.parent.name):
        text_ = f'"{found.parent.name}" can never be "{site.parent.name}"'
        yield Problem(fieldsets.INVALID, text_)
    below = subgraph.types.get(base(found.field.type)) if found.field is not None else None
    if below is not None and below.kind in _KINDS:
        yield Problem(
            "FIELDS_SELECT_INVALID_TYPE",
            f'field "{found.coordinate}" is a {_KINDS[below.kind]} type'
            " which is not allowed in @key",
        )


def _meets(subgraph: Subgraph, one: str, other: str) -> bool:
    """Whether two composite types have a possible type in common."""
    types = subgraph.types
    return one == other or bool(possible_types(types, one) & possible_types(types, other))


def _interface_keys(subgraph: Subgraph) -> Errors:
    """An interface's key must be a key of every implementation, resolvable where it is there."""
    if subgraph.version < (2, 0):
        return
    for definition in subgraph.types.values():
        if definition.kind is not Kind.INTERFACE:
            continue
        for applied in definition.directives:
            fields = applied.arguments.get("fields")
            if not is_federation(applied, "key") or not isinstance(fields, str):
                continue
            if not _readable(subgraph, definition, fields):
                continue
            resolvable = applied.arguments.get("resolvable") is not False
            for name in sorted(possible_types(subgraph.types, definition.name)):
                reason = _lacks_key(subgraph.types[name], fields, resolvable=resolvable)
                if reason:
                    yield CompositionError(
                        "INTERFACE_KEY_NOT_ON_IMPLEMENTATION",
                        f'Key @key(fields: "{fields}") on interface type "{definition.name}"'
                        f' {reason} "{name}".',
                    )


def _readable(subgraph: Subgraph, definition: TypeDefinition, fields: str) -> bool:
    try:
        selection = fieldsets.parse_field_set(fields)
    except FieldSetRefused:
        return False
    walked = fieldsets.walk(subgraph.types, definition.name, selection)
    return not any(not isinstance(found, Selected) for found in walked)


def _lacks_key(definition: TypeDefinition, fields: str, *, resolvable: bool) -> str:
    """Why an implementation has not the interface's key, or an empty text."""
    same = [
        applied
        for applied in definition.directives
        if is_federation(applied, "key")
        and fieldsets.same_fields(str(applied.arguments.get("fields")), fields)
    ]
    if not same:
        return "is missing on implementation type"
    if resolvable and all(applied.arguments.get("resolvable") is False for applied in same):
        return (
            "should be resolvable on all implementation types, but is declared with argument"
            ' "@key(resolvable:)" set to false in type'
        )
    return ""


def used_fields(subgraph: Subgraph) -> set[tuple[str, str]]:
    """(type, field) of everything that keys, `@requires` and `@provides` select."""
    used: set[tuple[str, str]] = set()
    for site in sites(subgraph):
        fields = site.applied.arguments.get("fields")
        assert site.applied.node is not None
        given = next(
            (
                each.value
                for each in site.applied.node.arguments or ()
                if each.name.value == "fields"
            ),
            None,
        )
        if not isinstance(given, StringValueNode):
            continue
        for found in fieldsets.selected(subgraph.types, site.parent.name, fields):
            used.add((found.parent.name, found.node.name.value))
    return used


def resolve_extension_keys(subgraph: Subgraph) -> None:
    """What keys on extensions select is resolved here: `@external` on it says nothing."""
    for definition in subgraph.types.values():
        keys = [each for each in definition.directives if is_federation(each, "key")]
        for applied in keys:
            if not applied.extended:
                continue
            fields = applied.arguments.get("fields")
            for found in fieldsets.selected(subgraph.types, definition.name, fields):
                if found.field is not None and _marked_external(found.field):
                    found.field.external = False


def _marked_external(field: OutputField) -> bool:
    return any(is_federation(each, "external") for each in field.directives)


def key_shareable(subgraph: Subgraph) -> None:
    """Fields of keys can be resolved by every subgraph that has the key: they are shareable."""
    for definition in subgraph.types.values():
        if definition.kind not in {Kind.OBJECT, Kind.INTERFACE}:
            continue
        for found in fieldsets.key_fields(subgraph.types, definition):
            if isinstance(found.field, OutputField):
                found.field.shareable = True
