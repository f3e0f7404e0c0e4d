"""Type references and values, compared as GraphQL and composition compare them."""

from collections.abc import Mapping

from graphql import (
    BooleanValueNode,
    ConstValueNode,
    EnumValueNode,
    FloatValueNode,
    IntValueNode,
    ListTypeNode,
    ListValueNode,
    NamedTypeNode,
    NonNullTypeNode,
    NullValueNode,
    ObjectValueNode,
    StringValueNode,
    TypeNode,
    ValueNode,
    VariableNode,
)

from gateway.federation.composition.subgraph import Kind, TypeDefinition

BUILT_IN_SCALARS = frozenset({"Int", "Float", "String", "Boolean", "ID"})
INPUT_KINDS = frozenset({Kind.SCALAR, Kind.ENUM, Kind.INPUT})
COMPOSITE_KINDS = frozenset({Kind.OBJECT, Kind.INTERFACE, Kind.UNION})
_LITERALS: dict[str, tuple[type[ValueNode], ...]] = {
    "Int": (IntValueNode,),
    "Float": (IntValueNode, FloatValueNode),
    "String": (StringValueNode, EnumValueNode),
    "Boolean": (BooleanValueNode,),
    "ID": (IntValueNode, StringValueNode, EnumValueNode),
}

Types = Mapping[str, TypeDefinition]


def base(node: TypeNode) -> str:
    """The named type under all lists and non-nulls."""
    while isinstance(node, ListTypeNode | NonNullTypeNode):
        node = node.type
    assert isinstance(node, NamedTypeNode)
    return node.name.value


def text(node: TypeNode) -> str:
    """A reference as written: `[Offer!]!`."""
    suffix = ""
    prefix = ""
    while isinstance(node, ListTypeNode | NonNullTypeNode):
        if isinstance(node, ListTypeNode):
            prefix, suffix = prefix + "[", "]" + suffix
        else:
            suffix = "!" + suffix
        node = node.type
    return f"{prefix}{base(node)}{suffix}"


def is_list(node: TypeNode) -> bool:
    """Whether a reference is a list, non-null or not."""
    return isinstance(node.type if isinstance(node, NonNullTypeNode) else node, ListTypeNode)


def is_subtype(types: Types, narrow: TypeNode, wide: TypeNode) -> bool:
    """Whether values of `narrow` may stand where `wide` is promised."""
    while True:
        if isinstance(wide, NonNullTypeNode):
            if not isinstance(narrow, NonNullTypeNode):
                return False
            narrow, wide = narrow.type, wide.type
            continue
        if isinstance(narrow, NonNullTypeNode):
            narrow = narrow.type
            continue
        if isinstance(wide, ListTypeNode) != isinstance(narrow, ListTypeNode):
            return False
        if isinstance(wide, ListTypeNode) and isinstance(narrow, ListTypeNode):
            narrow, wide = narrow.type, wide.type
            continue
        return is_kind_of(types, base(narrow), base(wide))


def is_kind_of(types: Types, narrow: str, wide: str) -> bool:
    """Whether a named type is another, implements it or is a member of it."""
    if narrow == wide:
        return True
    definition = types.get(narrow)
    union = types.get(wide)
    return (definition is not None and wide in definition.interfaces) or (
        union is not None and union.kind is Kind.UNION and narrow in union.members
    )


def possible_types(types: Types, name: str) -> frozenset[str]:
    """The object types that a composite type may be at run time."""
    definition = types.get(name)
    if definition is None:
        return frozenset()
    if definition.kind is Kind.UNION:
        return frozenset(definition.members)
    if definition.kind is Kind.INTERFACE:
        return frozenset(
            other.name
            for other in types.values()
            if other.kind is Kind.OBJECT and name in other.interfaces
        )
    return frozenset({name})


def accepts(types: Types, node: TypeNode, value: ConstValueNode, *, null: bool = False) -> bool:
    """Whether a literal may be given for a type; `null` lets null pass for a non-null one.

    As lenient as composition is: an enum's value may be written as a string and a string as a
    name, an input object may lack required fields, integers have no range.
    """
    pending: list[tuple[TypeNode, ValueNode, bool]] = [(node, value, null)]
    while pending:
        wanted, given, nullable = pending.pop()
        if isinstance(given, VariableNode):
            return False
        if isinstance(given, NullValueNode):
            if isinstance(wanted, NonNullTypeNode) and not nullable:
                return False
            continue
        if isinstance(wanted, NonNullTypeNode):
            wanted = wanted.type
        if isinstance(wanted, ListTypeNode):
            members = given.values if isinstance(given, ListValueNode) else (given,)
            pending += [(wanted.type, member, False) for member in members]
            continue
        more = _named(types, base(wanted), given)
        if more is None:
            return False
        pending += more
    return True


def _named(
    types: Types, name: str, given: ValueNode
) -> list[tuple[TypeNode, ValueNode, bool]] | None:
    """What remains to be checked of a literal for a named type, None when it does not fit."""
    definition = types.get(name)
    if name in _LITERALS:
        return [] if isinstance(given, _LITERALS[name]) else None
    if definition is None or definition.kind is Kind.SCALAR:
        return []
    if definition.kind is Kind.ENUM:
        fits = isinstance(given, EnumValueNode | StringValueNode) and (
            given.value in definition.values
        )
        return [] if fits else None
    if definition.kind is not Kind.INPUT or not isinstance(given, ObjectValueNode):
        return None
    remaining: list[tuple[TypeNode, ValueNode, bool]] = []
    for entry in given.fields:
        declared = definition.input_fields.get(entry.name.value)
        if declared is None:
            return None
        remaining.append((declared.type, entry.value, False))
    return remaining
