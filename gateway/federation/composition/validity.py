"""Whether a document is GraphQL: references, shapes, interfaces, directives, default values.

Composition is more lenient than a GraphQL server in a few places (an extension needs no base here,
enum values may be strings in defaults); that leniency is what other federation tools have too.
"""

from collections.abc import Iterable, Iterator

from graphql import (
    ConstValueNode,
    DirectiveDefinitionNode,
    NonNullTypeNode,
    TypeNode,
    parse_type,
    print_ast,
)

from gateway.federation.composition import specs
from gateway.federation.composition.reading import (
    ROOTS,
    Reading,
    built_in,
    invalid,
    spec_definition,
)
from gateway.federation.composition.subgraph import (
    Applied,
    Argument,
    DirectiveDefinition,
    EnumValue,
    Kind,
    OutputField,
    TypeDefinition,
)
from gateway.federation.composition.types import (
    BUILT_IN_SCALARS,
    COMPOSITE_KINDS,
    INPUT_KINDS,
    accepts,
    base,
    is_subtype,
    text,
)
from gateway.federation.errors import CompositionError

Errors = Iterator[CompositionError]
_STANDARD: dict[str, tuple[frozenset[str], dict[str, str]]] = {
    "deprecated": (
        frozenset(
            {"FIELD_DEFINITION", "ENUM_VALUE", "ARGUMENT_DEFINITION", "INPUT_FIELD_DEFINITION"}
        ),
        {"reason": "String"},
    ),
    "specifiedBy": (frozenset({"SCALAR"}), {"url": "String!"}),
    "skip": (frozenset({"FIELD", "FRAGMENT_SPREAD", "INLINE_FRAGMENT"}), {"if": "Boolean!"}),
    "include": (frozenset({"FIELD", "FRAGMENT_SPREAD", "INLINE_FRAGMENT"}), {"if": "Boolean!"}),
}
_PURPOSE = TypeDefinition(
    "Purpose", Kind.ENUM, values={name: EnumValue(name) for name in specs.PURPOSES}
)


def unknown_references(reading: Reading) -> Errors:
    """Names of types that nothing defines, in fields, arguments and directives' definitions."""
    known = set(reading.types) | set(reading.machinery) | BUILT_IN_SCALARS
    known |= {reading.names.type(name) for name in specs.federation_scalars(reading.names.version)}
    for definition in reading.types.values():
        for output in definition.fields.values():
            for node in (output.type, *(each.type for each in output.arguments.values())):
                if base(node) not in known:
                    yield invalid(f"Unknown type {base(node)}")
        for field in definition.input_fields.values():
            if base(field.type) not in known:
                yield invalid(f"Unknown type {base(field.type)}")
    for directive in (*reading.directives.values(), *reading.machinery_directives.values()):
        for argument in directive.arguments.values():
            if base(argument.type) not in known:
                yield invalid(f"Unknown type {base(argument.type)}")


def wrong_references(reading: Reading) -> Errors:
    """References to types of a kind that cannot stand there; directives nobody defines."""
    for definition in reading.types.values():
        yield from _wrong_interfaces(reading, definition)
        yield from _wrong_members(reading, definition)
        for output in definition.fields.values():
            where = f"{definition.name}.{output.name}"
            yield from _output(reading, where, output.type)
            for argument in output.arguments.values():
                yield from _input(reading, f"{where}({argument.name}:)", argument.type)
        for field in definition.input_fields.values():
            yield from _input(reading, f"{definition.name}.{field.name}", field.type)
    for machinery in reading.machinery.values():
        yield from _wrong_members(reading, machinery)
    yield from _wrong_roots(reading)
    yield from unknown_directives(reading)


def _wrong_roots(reading: Reading) -> Errors:
    for name in BUILT_IN_SCALARS & set(reading.types):
        if reading.types[name].kind is not Kind.SCALAR:
            yield invalid(f"{name} is a scalar of GraphQL's own")
    if len(set(reading.roots.values())) < len(reading.roots):
        yield invalid("All root types must be different")
    for root, name in reading.roots.items():
        found = reading.types.get(name)
        if found is None:
            yield invalid(f"The {root} root type {name} is not defined")
        elif found.kind is not Kind.OBJECT:
            yield invalid(f"The {root} root type must be an object type, {name} is not")


def unknown_directives(reading: Reading, *, schema_only: bool = False) -> Errors:
    """Directives that nothing defines, each once."""
    seen: set[str] = set()
    for location, _, applied in _applications(reading):
        if schema_only and location != "SCHEMA":
            continue
        local = _local(applied)
        if local not in seen and not _is_known(reading, local):
            seen.add(local)
            if reading.names.resolve(local)[0] == specs.CONNECT:
                yield CompositionError(
                    "UNSUPPORTED_FEATURE",
                    f'"@{local}" is a directive of connectors ({specs.CONNECT}): no subgraph is'
                    " asked through them here.",
                )
                continue
            yield invalid(f'Unknown directive "@{local}".{_advice(reading, local)}')


def _advice(reading: Reading, local: str) -> str:
    newest = specs.federation_directives(specs.NEWEST)
    if reading.names.federation is None and local in newest:
        return (
            " It is a directive of federation 2, but this is a federation 1 schema: it has no"
            " @link to the federation spec."
        )
    return ""


def _local(applied: Applied) -> str:
    assert applied.node is not None
    return applied.node.name.value


def _is_known(reading: Reading, local: str) -> bool:
    """Whether a directive is defined: in the document, by GraphQL, or by a spec we add."""
    if local in reading.directives or local in reading.machinery_directives or local in _STANDARD:
        return True
    return spec_definition(reading.names, local) is not None and built_in(reading.names, local)


def _kind(reading: Reading, name: str) -> Kind | None:
    definition = reading.types.get(name) or reading.machinery.get(name)
    return definition.kind if definition is not None else None


def _output(reading: Reading, where: str, node: TypeNode) -> Errors:
    if _kind(reading, base(node)) is Kind.INPUT:
        yield invalid(f"{where} must have an output type, {base(node)} is an input type")


def _input(reading: Reading, where: str, node: TypeNode) -> Errors:
    kind = _kind(reading, base(node))
    if kind is not None and kind not in INPUT_KINDS:
        yield invalid(f"{where} must have an input type, {base(node)} is none")


def _wrong_interfaces(reading: Reading, definition: TypeDefinition) -> Errors:
    for name in definition.interfaces:
        kind = _kind(reading, name)
        if kind is None:
            yield invalid(f"{definition.name} implements {name}, which nothing defines")
        elif kind is not Kind.INTERFACE:
            yield invalid(f"{definition.name} implements {name}, which is no interface")


def _wrong_members(reading: Reading, definition: TypeDefinition) -> Errors:
    for name in definition.members:
        kind = _kind(reading, name)
        if kind is None:
            yield invalid(f"Union {definition.name} names {name}, which nothing defines")
        elif kind is not Kind.OBJECT:
            yield invalid(f"Union {definition.name} names {name}, which is no object type")


def validity(reading: Reading) -> Errors:
    """All other rules of GraphQL on a document whose references stand."""
    for definition in reading.types.values():
        yield from _names_of(definition)
        yield from _empty(reading, definition)
        if definition.kind in COMPOSITE_KINDS:
            yield from _implements(reading, definition)
        yield from _defaults(reading, definition)
        yield from _required_deprecated(definition)
    for name in (*reading.directives, *reading.machinery_directives):
        yield from _name(name)
    yield from _input_cycles(reading)
    yield from _applied(reading)


def _name(name: str) -> Errors:
    if name.startswith("__"):
        yield invalid(
            f'Name "{name}" must not begin with "__", which is reserved by GraphQL introspection.'
        )


def _names_of(definition: TypeDefinition) -> Errors:
    yield from _name(definition.name)
    for output in definition.fields.values():
        yield from _name(output.name)
        for argument in output.arguments:
            yield from _name(argument)
    for name in (*definition.input_fields, *definition.values):
        yield from _name(name)


def _empty(reading: Reading, definition: TypeDefinition) -> Errors:
    name = definition.name
    if definition.kind in {Kind.OBJECT, Kind.INTERFACE} and not definition.fields:
        if name not in {reading.roots.get("query"), ROOTS["query"]}:
            yield invalid(f"Type {name} must define one or more fields.")
    elif definition.kind is Kind.INPUT and not definition.input_fields:
        yield invalid(f"Input Object type {name} must define one or more fields.")
    elif definition.kind is Kind.ENUM and not definition.values:
        yield invalid(f"Enum type {name} must define one or more values.")
    elif definition.kind is Kind.UNION and not definition.members:
        yield invalid(f"Union type {name} must define one or more member types.")


def _implements(reading: Reading, definition: TypeDefinition) -> Errors:
    """An object or interface has what its interfaces promise, and what they implement."""
    name = definition.name
    for wanted in definition.interfaces:
        interface = reading.types[wanted]
        if wanted == name:
            yield invalid(
                f"Type {name} cannot implement itself because it would create a circular reference."
            )
            continue
        for above in interface.interfaces:
            if above == name:
                yield invalid(
                    f"Type {name} cannot implement {wanted}"
                    " because it would create a circular reference."
                )
            elif above not in definition.interfaces:
                yield invalid(
                    f"Type {name} must implement {above} because it is implemented by {wanted}."
                )
        for promised in interface.fields.values():
            yield from _keeps(reading, name, wanted, promised, definition.fields)


def _keeps(
    reading: Reading, name: str, interface: str, promised: OutputField, has: dict[str, OutputField]
) -> Errors:
    field = promised.name
    found = has.get(field)
    if found is None:
        yield invalid(
            f"Interface field {interface}.{field} expected but {name} does not provide it."
        )
        return
    if not is_subtype(reading.types, found.type, promised.type):
        yield invalid(
            f"Interface field {interface}.{field} expects type {text(promised.type)}"
            f" but {name}.{field} is type {text(found.type)}."
        )
    for argument in promised.arguments.values():
        other = found.arguments.get(argument.name)
        if other is None:
            yield invalid(
                f"Interface field argument {interface}.{field}({argument.name}:) expected"
                f" but {name}.{field} does not provide it."
            )
        elif text(other.type) != text(argument.type):
            yield invalid(
                f"Interface field argument {interface}.{field}({argument.name}:) expects type"
                f" {text(argument.type)} but {name}.{field}({argument.name}:) is type"
                f" {text(other.type)}."
            )
    for argument in found.arguments.values():
        if argument.name not in promised.arguments and _required(argument):
            yield invalid(
                f"Field {name}.{field} includes required argument {argument.name}"
                f" that is missing from the Interface field {interface}.{field}."
            )


def _required(argument: Argument) -> bool:
    return isinstance(argument.type, NonNullTypeNode) and argument.default is None


def _inputs(definition: TypeDefinition) -> Iterator[tuple[str, Argument]]:
    for output in definition.fields.values():
        for argument in output.arguments.values():
            yield f"{definition.name}.{output.name}({argument.name}:)", argument
    for field in definition.input_fields.values():
        yield f"{definition.name}.{field.name}", field


def _defaults(reading: Reading, definition: TypeDefinition) -> Errors:
    for where, argument in _inputs(definition):
        if argument.default is not None and not accepts(
            reading.types, argument.type, argument.default
        ):
            yield invalid(
                f"Invalid default value (got: {print_ast(argument.default)}) provided for {where}"
                f" of type {text(argument.type)}."
            )


def _required_deprecated(definition: TypeDefinition) -> Errors:
    for where, argument in _inputs(definition):
        if _required(argument) and any(each.name == "deprecated" for each in argument.directives):
            yield invalid(f"{where} is required and cannot be deprecated.")


def _input_cycles(reading: Reading) -> Errors:
    """Input objects that contain themselves by non-null fields only: no value could be written."""
    edges = {
        definition.name: [
            base(field.type)
            for field in definition.input_fields.values()
            if isinstance(field.type, NonNullTypeNode)
            and text(field.type) == f"{base(field.type)}!"
            and _kind(reading, base(field.type)) is Kind.INPUT
        ]
        for definition in reading.types.values()
        if definition.kind is Kind.INPUT
    }
    done: set[str] = set()
    for start in edges:
        yield from _cycle_from(start, edges, done)


def _cycle_from(start: str, edges: dict[str, list[str]], done: set[str]) -> Errors:
    """Depth first without recursion; `done` holds what was left for good."""
    path: list[str] = []
    stack: list[tuple[str, bool]] = [(start, False)]
    open_: set[str] = set()
    while stack:
        name, leaving = stack.pop()
        if leaving:
            path.pop()
            open_.discard(name)
            done.add(name)
        elif name in open_:
            circle = " → ".join([*path[path.index(name) :], name])
            yield invalid(f"Input objects require one another without end: {circle}")
        elif name not in done:
            open_.add(name)
            path.append(name)
            stack.append((name, True))
            stack += [(following, False) for following in edges.get(name, ())]


def _applications(reading: Reading) -> Iterator[tuple[str, str, Applied]]:
    """Every directive applied: (location, of what, directive)."""

    def each(
        location: str, where: str, applied: Iterable[Applied]
    ) -> Iterator[tuple[str, str, Applied]]:
        for one in applied:
            yield location, where, one

    yield from each("SCHEMA", "schema", reading.schema_directives)
    for definition in (*reading.types.values(), *reading.machinery.values()):
        name = definition.name
        yield from each(definition.kind.value, name, definition.directives)
        for output in definition.fields.values():
            yield from each("FIELD_DEFINITION", f"{name}.{output.name}", output.directives)
            for argument in output.arguments.values():
                where = f"{name}.{output.name}({argument.name}:)"
                yield from each("ARGUMENT_DEFINITION", where, argument.directives)
        for field in definition.input_fields.values():
            yield from each("INPUT_FIELD_DEFINITION", f"{name}.{field.name}", field.directives)
        for value in definition.values.values():
            yield from each("ENUM_VALUE", f"{name}.{value.name}", value.directives)
    for directive in reading.directives.values():
        for argument in directive.arguments.values():
            where = f"@{directive.name}({argument.name}:)"
            yield from each("ARGUMENT_DEFINITION", where, argument.directives)


def _applied(reading: Reading) -> Errors:
    """Directives stand where they may, once unless repeatable, with fitting arguments."""
    seen: set[tuple[str, str, str]] = set()
    for location, where, applied in _applications(reading):
        local = _local(applied)
        definition = _definition(reading, local)
        if definition is None:
            continue
        locations, arguments, repeatable = definition
        if location not in locations:
            yield invalid(f'Directive "@{local}" may not be used on {location}.')
        if not repeatable:
            mark = (location, where, local)
            if mark in seen:
                yield invalid(f'The directive "@{local}" can only be used once at this location.')
            seen.add(mark)
        yield from _given(reading, where, applied, arguments)


def _definition(
    reading: Reading, local: str
) -> tuple[frozenset[str], dict[str, tuple[TypeNode, bool]], bool] | None:
    """Locations, arguments (type, has a default) and repeatability of a directive."""
    own = reading.directives.get(local) or reading.machinery_directives.get(local)
    if own is not None:
        return _of_document(own)
    spec = spec_definition(reading.names, local)
    if spec is not None:
        return _of_spec(spec)
    standard = _STANDARD.get(local)
    if standard is None:
        return None
    locations, given = standard
    return locations, {name: (parse_type(node), False) for name, node in given.items()}, False


def _of_document(
    own: DirectiveDefinition,
) -> tuple[frozenset[str], dict[str, tuple[TypeNode, bool]], bool]:
    arguments = {
        argument.name: (argument.type, argument.default is not None)
        for argument in own.arguments.values()
    }
    return frozenset(own.locations), arguments, own.repeatable


def _of_spec(
    spec: DirectiveDefinitionNode,
) -> tuple[frozenset[str], dict[str, tuple[TypeNode, bool]], bool]:
    arguments = {
        argument.name.value: (argument.type, argument.default_value is not None)
        for argument in spec.arguments or ()
    }
    return frozenset(each.value for each in spec.locations), arguments, spec.repeatable


def _given(
    reading: Reading,
    where: str,
    applied: Applied,
    arguments: dict[str, tuple[TypeNode, bool]],
) -> Errors:
    local = _local(applied)
    assert applied.node is not None
    own = local in reading.directives
    types = reading.types if own else {"Purpose": _PURPOSE}
    given: dict[str, ConstValueNode] = {
        argument.name.value: argument.value for argument in applied.node.arguments or ()
    }
    for name, value in given.items():
        if name not in arguments:
            yield invalid(f'Unknown argument "{name}" on directive "@{local}".')
        elif not accepts(types, arguments[name][0], value, null=True):
            yield invalid(
                f'Invalid value for "@{local}({name}:)" of type "{text(arguments[name][0])}"'
                f' in application of "@{local}" to "{where}".'
            )
    for name, (node, has_default) in arguments.items():
        if isinstance(node, NonNullTypeNode) and not has_default and name not in given:
            yield invalid(
                f'Directive "@{local}" argument "{name}" of type "{text(node)}" is required,'
                " but it was not provided."
            )
