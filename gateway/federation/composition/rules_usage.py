"""Rules on what else a subgraph may say: `@external`, `@shareable`, roots, interface objects, …"""

from collections import Counter
from collections.abc import Iterator

from gateway.federation.composition.reading import ROOTS, is_federation
from gateway.federation.composition.rules_fieldsets import used_fields
from gateway.federation.composition.subgraph import (
    Applied,
    Kind,
    OutputField,
    Subgraph,
    TypeDefinition,
)
from gateway.federation.composition.types import COMPOSITE_KINDS, base, is_list, text
from gateway.federation.errors import CompositionError

Errors = Iterator[CompositionError]
AUTH = ("authenticated", "requiresScopes", "policy")


def fields_of(subgraph: Subgraph) -> Iterator[tuple[TypeDefinition, OutputField, str]]:
    """Every field of objects and interfaces with its coordinate."""
    for definition in subgraph.types.values():
        for field in definition.fields.values():
            yield definition, field, f"{definition.name}.{field.name}"


def applied_named(applied: list[Applied], name: str) -> Applied | None:
    """The first application of a directive of a known spec."""
    return next((each for each in applied if is_federation(each, name)), None)


def usage(subgraph: Subgraph) -> Errors:
    """All rules of this module."""
    yield from _roots(subgraph)
    yield from _external_on_interfaces(subgraph)
    yield from _external_unused(subgraph)
    yield from _shareable(subgraph)
    yield from _interface_objects(subgraph)
    yield from _costs(subgraph)
    yield from _list_sizes(subgraph)
    yield from _auth(subgraph)


def _roots(subgraph: Subgraph) -> Errors:
    roots = {
        "query": subgraph.query,
        "mutation": subgraph.mutation,
        "subscription": subgraph.subscription,
    }
    for operation, default in ROOTS.items():
        name = roots[operation]
        if name is not None and name != default and default in subgraph.types:
            yield CompositionError(
                f"ROOT_{operation.upper()}_USED",
                f'The schema has a type named "{default}" but it is not set as the {operation} root'
                f' type ("{name}" is instead): this is not supported by federation. If a root type'
                " does not use its default name, there should be no other type with that name.",
            )


def _external_on_interfaces(subgraph: Subgraph) -> Errors:
    for definition, field, where in fields_of(subgraph):
        if definition.kind is Kind.INTERFACE and field.external:
            yield CompositionError(
                "EXTERNAL_ON_INTERFACE",
                f'Interface type field "{where}" is marked @external but @external is not allowed'
                " on interface fields (it is nonsensical).",
            )


def _external_unused(subgraph: Subgraph) -> Errors:
    """External fields that no field set selects and no interface asks for."""
    used = used_fields(subgraph)
    for definition, field, where in fields_of(subgraph):
        if not field.external or (definition.name, field.name) in used:
            continue
        if satisfies_interface(subgraph, definition, field):
            continue
        yield CompositionError(
            "EXTERNAL_UNUSED",
            f'Field "{where}" is marked @external but is not used in any federation directive'
            " (@key, @provides, @requires) or to satisfy an interface; the field declaration has no"
            " use and should be removed (or the field should not be @external).",
        )


def satisfies_interface(subgraph: Subgraph, definition: TypeDefinition, field: OutputField) -> bool:
    """Whether an interface of the type has the field, so that the type must declare it."""
    for name in definition.interfaces:
        interface = subgraph.types.get(name)
        if interface is not None and field.name in interface.fields:
            return True
    return False


def _shareable(subgraph: Subgraph) -> Errors:
    for definition, field, where in fields_of(subgraph):
        marks = [each for each in field.directives if is_federation(each, "shareable")]
        if marks and definition.kind is not Kind.OBJECT:
            yield CompositionError(
                "INVALID_SHAREABLE_USAGE",
                f'Invalid use of @shareable on field "{where}":'
                " only object type fields can be marked with @shareable",
            )
        elif len(marks) > 1:
            yield _twice(f'on field "{where}"')
    for definition in subgraph.types.values():
        declarations = Counter(
            each.declaration for each in definition.directives if is_federation(each, "shareable")
        )
        if any(count > 1 for count in declarations.values()):
            yield _twice(f'on the same type declaration of "{definition.name}"')


def _twice(where: str) -> CompositionError:
    return CompositionError(
        "INVALID_SHAREABLE_USAGE",
        f"Invalid duplicate application of @shareable {where}: it is only repeatable so that a"
        " type's definition and its extensions may each have it",
    )


def _interface_objects(subgraph: Subgraph) -> Errors:
    for definition in subgraph.types.values():
        if applied_named(definition.directives, "interfaceObject") is None:
            continue
        if applied_named(definition.directives, "key") is None:
            yield CompositionError(
                "INTERFACE_OBJECT_USAGE_ERROR",
                "The @interfaceObject directive can only be applied to entity types but type"
                f' "{definition.name}" has no @key in this subgraph.',
            )


def _costs(subgraph: Subgraph) -> Errors:
    for definition, field, where in fields_of(subgraph):
        if definition.kind is Kind.INTERFACE and applied_named(field.directives, "cost"):
            yield CompositionError(
                "COST_APPLIED_TO_INTERFACE_FIELD",
                f'@cost cannot be applied to interface field "{where}"',
            )


def _list_sizes(subgraph: Subgraph) -> Errors:
    for _, field, where in fields_of(subgraph):
        applied = applied_named(field.directives, "listSize")
        if applied is None:
            continue
        sized = _names(applied.arguments.get("sizedFields"))
        if not sized and not is_list(field.type):
            yield CompositionError("LIST_SIZE_APPLIED_TO_NON_LIST", f'"{where}" is not a list')
        assumed = applied.arguments.get("assumedSize")
        if isinstance(assumed, int) and assumed < 0:
            yield CompositionError(
                "LIST_SIZE_INVALID_ASSUMED_SIZE", f'Assumed size of "{where}" cannot be negative'
            )
        for name in _names(applied.arguments.get("slicingArguments")):
            yield from _slicing(field, where, name)
        yield from _sized(subgraph, field, sized)


def _names(value: object) -> list[str]:
    if value is None:
        return []
    return [str(name) for name in value] if isinstance(value, list) else [str(value)]


def _slicing(field: OutputField, where: str, name: str) -> Errors:
    code = "LIST_SIZE_INVALID_SLICING_ARGUMENT"
    argument = field.arguments.get(name)
    if argument is None:
        yield CompositionError(code, f'Slicing argument "{name}" is not an argument of "{where}"')
    elif text(argument.type) not in {"Int", "Int!"}:
        yield CompositionError(code, f'Slicing argument "{where}({name}:)" must be Int or Int!')


def _sized(subgraph: Subgraph, field: OutputField, sized: list[str]) -> Errors:
    code = "LIST_SIZE_INVALID_SIZED_FIELD"
    if not sized:
        return
    below = subgraph.types.get(base(field.type))
    if below is None or below.kind not in COMPOSITE_KINDS:
        yield CompositionError(
            code,
            f'Sized fields cannot be used because "{text(field.type)}" is not a composite type',
        )
        return
    for name in sized:
        found = below.fields.get(name)
        if found is None:
            yield CompositionError(
                code, f'Sized field "{name}" is not a field on type "{below.name}"'
            )
        elif not is_list(found.type):
            yield CompositionError(
                "LIST_SIZE_APPLIED_TO_NON_LIST",
                f'Sized field "{below.name}.{name}" is not a list',
            )


def _auth(subgraph: Subgraph) -> Errors:
    """Access rules stand on objects and their fields only: interfaces inherit them."""
    for definition in subgraph.types.values():
        interface = definition.kind is Kind.INTERFACE
        as_object = applied_named(definition.directives, "interfaceObject") is not None
        if not interface and not as_object:
            continue
        what = "interface" if interface else "interface object"
        places = [(definition.directives, f'{what} "{definition.name}"')]
        if interface:
            places += [
                (field.directives, f'field "{definition.name}.{field.name}"')
                for field in definition.fields.values()
            ]
        for applied, where in places:
            for name in AUTH:
                if applied_named(applied, name) is not None:
                    yield CompositionError(
                        "AUTH_REQUIREMENTS_APPLIED_ON_INTERFACE",
                        f"Invalid use of @{name} on {where}: @{name} cannot be applied on"
                        " interfaces, interface fields and interface objects",
                    )
