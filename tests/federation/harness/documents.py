"""Subgraph SDL as one plain schema document, and what federation's directives say in it."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DirectiveNode,
    DocumentNode,
    FieldNode,
    InlineFragmentNode,
    SelectionSetNode,
    parse,
    print_ast,
    value_from_ast_untyped,
)
from graphql.language import (
    DirectiveDefinitionNode,
    SchemaDefinitionNode,
    SchemaExtensionNode,
    TypeDefinitionNode,
    TypeExtensionNode,
)

FEDERATION = "https://specs.apollo.dev/federation/"
NAMES = (
    "key", "requires", "provides", "external", "shareable", "override", "inaccessible", "tag",
    "interfaceObject", "extends", "composeDirective",
)  # fmt: skip

_KEYWORDS = {
    "object_type": "type", "interface_type": "interface", "union_type": "union",
    "enum_type": "enum", "input_object_type": "input", "scalar_type": "scalar",
}  # fmt: skip


@dataclass
class FieldRules:
    """What a field of a subgraph is under."""

    external: bool = False
    requires: SelectionSetNode | None = None
    provides: SelectionSetNode | None = None


@dataclass
class TypeRules:
    """What a type of a subgraph is under: key field sets with whether they resolve."""

    keys: list[tuple[SelectionSetNode, bool]] = field(default_factory=list)
    interface_object: bool = False
    abstract: bool = False
    fields: dict[str, FieldRules] = field(default_factory=dict)


def selection(text: str) -> SelectionSetNode:
    """A federation field set, parsed."""
    return parse(f"{{{text}}}").definitions[0].selection_set


def canonical_names(document: DocumentNode) -> dict[str, str]:
    """Local directive names → federation's own, by the document's @link; all of v1 without one."""
    for definition in document.definitions:
        if not isinstance(definition, SchemaExtensionNode | SchemaDefinitionNode):
            continue
        for directive in definition.directives or ():
            arguments = _arguments(directive)
            if directive.name.value == "link" and arguments["url"].startswith(FEDERATION):
                return _linked(arguments)
    return {name: name for name in NAMES}


def _linked(arguments: dict[str, Any]) -> dict[str, str]:
    prefix = arguments.get("as", "federation")
    names = {f"{prefix}__{name}": name for name in NAMES}
    for imported in arguments.get("import", ()):
        pair = imported if isinstance(imported, dict) else {"name": imported}
        names[pair.get("as", pair["name"]).removeprefix("@")] = pair["name"].removeprefix("@")
    return names


def _arguments(directive: DirectiveNode) -> dict[str, Any]:
    return {a.name.value: value_from_ast_untyped(a.value) for a in directive.arguments or ()}


def rules(document: DocumentNode) -> dict[str, TypeRules]:
    """What federation's directives say about every type with fields."""
    names = canonical_names(document)
    found: dict[str, TypeRules] = defaultdict(TypeRules)
    for definition in document.definitions:
        if not isinstance(definition, TypeDefinitionNode | TypeExtensionNode):
            continue
        of_type = found[definition.name.value]
        applied = dict(_applied(definition, names))
        for name, arguments in _applied(definition, names):
            if name == "key":
                keys = (selection(arguments["fields"]), arguments.get("resolvable", True))
                of_type.keys.append(keys)
        of_type.abstract |= definition.kind.startswith("interface")
        of_type.interface_object |= "interfaceObject" in applied
        for node in getattr(definition, "fields", None) or ():
            on_field = dict(_applied(node, names))
            of_type.fields[node.name.value] = FieldRules(
                external="external" in on_field or "external" in applied,
                requires=_set(on_field.get("requires")),
                provides=_set(on_field.get("provides")),
            )
    return dict(found)


def _set(arguments: dict[str, Any] | None) -> SelectionSetNode | None:
    return None if arguments is None else selection(arguments["fields"])


def _applied(node: Any, names: dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for directive in node.directives or ():
        if directive.name.value in names:
            yield names[directive.name.value], _arguments(directive)


def plain(document: DocumentNode, extra: str) -> DocumentNode:
    """One definition a type, nothing of federation's; `extra` is SDL added to it.

    Extensions become part of their definitions, or definitions where there is none.
    """
    parts: dict[str, list[Any]] = defaultdict(list)
    for definition in (*document.definitions, *parse(extra).definitions):
        kept = TypeDefinitionNode | TypeExtensionNode
        if isinstance(definition, kept) and not isinstance(definition, DirectiveDefinitionNode):
            parts[definition.name.value].append(definition)
    return parse("\n".join(_joined(nodes) for nodes in parts.values()))


def _joined(nodes: list[Any]) -> str:
    """Definition and extensions of a type as one definition, without directives."""
    kind = nodes[0].kind.removesuffix("_definition").removesuffix("_extension")
    head = f"{_KEYWORDS[kind]} {nodes[0].name.value}"
    interfaces = [i.name.value for node in nodes for i in getattr(node, "interfaces", None) or ()]
    if interfaces:
        head += " implements " + " & ".join(dict.fromkeys(interfaces))
    members = [print_ast(t) for node in nodes for t in getattr(node, "types", None) or ()]
    if members:
        return f"{head} = {' | '.join(dict.fromkeys(members))}"
    lines = {
        line.name.value: print_ast(_bare(line))
        for node in nodes
        for line in getattr(node, "fields", None) or getattr(node, "values", None) or ()
    }
    return head + (" {\n" + "\n".join(lines.values()) + "\n}" if lines else "")


def _bare(node: Any) -> Any:
    """A field, enum value or input field without descriptions and directives."""
    changed = {key: getattr(node, key) for key in node.keys if key != "loc"}
    changed |= {"directives": (), "description": None}
    if changed.get("arguments"):
        changed["arguments"] = tuple(_bare(argument) for argument in changed["arguments"])
    return type(node)(**changed)


def names_in(selections: SelectionSetNode) -> Iterator[str]:
    """The names of all fields anywhere in a selection."""
    for node in selections.selections:
        if isinstance(node, FieldNode):
            yield node.name.value
        if isinstance(node, FieldNode | InlineFragmentNode) and node.selection_set:
            yield from names_in(node.selection_set)
