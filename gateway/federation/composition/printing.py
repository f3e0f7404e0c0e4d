"""The supergraph as SDL: `@link`s, what the join spec defines, then everything by name."""

from collections.abc import Iterable, Mapping

from gateway.federation.composition.merged import (
    Mark,
    Merged,
    MergedArgument,
    MergedDirective,
    MergedField,
    MergedType,
    MergedValue,
)
from gateway.federation.composition.subgraph import Kind, Link
from gateway.federation.composition.values import value_text

_FIELD_ARGUMENTS = (
    "graph: join__Graph, requires: join__FieldSet, provides: join__FieldSet, type: String, "
    "external: Boolean, override: String, usedOverridden: Boolean"
)
_LATER_ARGUMENTS = {
    (0, 3): "",
    (0, 4): ", overrideLabel: String",
    (0, 5): ", overrideLabel: String, contextArguments: [join__ContextArgument!]",
}
_DIRECTIVES = {
    "join__enumValue": "(graph: join__Graph!) repeatable on ENUM_VALUE",
    "join__graph": "(name: String!, url: String!) on ENUM_VALUE",
    "join__implements": (
        "(graph: join__Graph!, interface: String!) repeatable on OBJECT | INTERFACE"
    ),
    "join__type": (
        "(graph: join__Graph!, key: join__FieldSet, extension: Boolean! = false, "
        "resolvable: Boolean! = true, isInterfaceObject: Boolean! = false) repeatable on "
        "OBJECT | INTERFACE | UNION | ENUM | INPUT_OBJECT | SCALAR"
    ),
    "join__unionMember": "(graph: join__Graph!, member: String!) repeatable on UNION",
    "link": (
        "(url: String, as: String, for: link__Purpose, import: [link__Import]) repeatable on SCHEMA"
    ),
}
_PURPOSE = '''enum link__Purpose {
  """
  `SECURITY` features provide metadata necessary to securely resolve fields.
  """
  SECURITY

  """
  `EXECUTION` features provide metadata necessary for operation execution.
  """
  EXECUTION
}'''
_CONTEXT_ARGUMENT = """input join__ContextArgument {
  name: String!
  type: String!
  context: String!
  selection: join__FieldValue!
}"""


def print_supergraph(merged: Merged) -> str:
    """The supergraph as text."""
    definitions = _machinery(merged)
    directives = {
        name: f"directive @{name}{rest}" for name, rest in _machine_directives(merged).items()
    }
    for directive in merged.directives.values():
        directives[directive.name] = _directive(directive)
    for one in merged.types.values():
        definitions[one.name] = _type(one)
    blocks = [_schema(merged)]
    blocks += [directives[name] for name in sorted(directives, key=_order)]
    blocks += [definitions[name] for name in sorted(definitions, key=_order)]
    return "\n\n".join(blocks)


def _order(name: str) -> tuple[str, str]:
    return name.lower(), name.swapcase()


def _machine_directives(merged: Merged) -> dict[str, str]:
    found = dict(_DIRECTIVES)
    found["join__field"] = (
        f"({_FIELD_ARGUMENTS}{_LATER_ARGUMENTS[merged.join_version]}) repeatable on "
        "FIELD_DEFINITION | INPUT_FIELD_DEFINITION"
    )
    if merged.join_version >= (0, 4):
        found["join__directive"] = (
            "(graphs: [join__Graph!], name: String!, args: join__DirectiveArguments) "
            "repeatable on SCHEMA | OBJECT | INTERFACE | FIELD_DEFINITION"
        )
    return found


def _machinery(merged: Merged) -> dict[str, str]:
    graphs = "\n".join(
        f"  {value} @join__graph(name: {value_text(name)}, url: {value_text(url)})"
        for name, (value, url) in merged.graphs.items()
    )
    found = {
        "join__FieldSet": "scalar join__FieldSet",
        "join__Graph": f"enum join__Graph {{\n{graphs}\n}}",
        "link__Import": "scalar link__Import",
        "link__Purpose": _PURPOSE,
    }
    if merged.join_version >= (0, 4):
        found["join__DirectiveArguments"] = "scalar join__DirectiveArguments"
    if merged.join_version >= (0, 5):
        found["join__FieldValue"] = "scalar join__FieldValue"
        found["join__ContextArgument"] = _CONTEXT_ARGUMENT
    return found


def _schema(merged: Merged) -> str:
    version = ".".join(map(str, merged.join_version))
    lines = [
        '  @link(url: "https://specs.apollo.dev/link/v1.0")',
        f'  @link(url: "https://specs.apollo.dev/join/v{version}", for: EXECUTION)',
        *(f"  {_link(link)}" for link in merged.links),
        *(f"  {_mark(mark)}" for mark in merged.marks),
    ]
    roots = [
        f"  {word}: {name}"
        for word, name in (
            ("query", "Query"),
            ("mutation", "Mutation"),
            ("subscription", "Subscription"),
        )
        if name in merged.types
    ]
    described = _description(merged.description, "")
    return "\n".join([*described, "schema", *lines, "{", *roots, "}"])


def _link(link: Link) -> str:
    parts = [f'url: "{link.identity}/v{link.version[0]}.{link.version[1]}"']
    if link.alias != link.name:
        parts.append(f'as: "{link.alias}"')
    if link.purpose:
        parts.append(f"for: {link.purpose}")
    if link.imports:
        imports = [
            f'"{name}"' if name == local else f'{{name: "{name}", as: "{local}"}}'
            for name, local in link.imports.items()
        ]
        parts.append(f"import: [{', '.join(imports)}]")
    return f"@link({', '.join(parts)})"


def _directive(directive: MergedDirective) -> str:
    repeatable = " repeatable" if directive.repeatable else ""
    head = f"directive @{directive.name}{_arguments(directive.arguments, '')}{repeatable}"
    lines = [*_description(directive.description, ""), f"{head} on "]
    return "\n".join(lines) + " | ".join(directive.locations)


def _type(one: MergedType) -> str:
    words = {
        Kind.SCALAR: "scalar",
        Kind.OBJECT: "type",
        Kind.INTERFACE: "interface",
        Kind.UNION: "union",
        Kind.ENUM: "enum",
        Kind.INPUT: "input",
    }
    implements = f" implements {' & '.join(one.interfaces)}" if one.interfaces else ""
    head = f"{words[one.kind]} {one.name}{implements}"
    lines = [*_description(one.description, ""), head]
    lines += [f"  {_mark(mark)}" for mark in one.marks]
    if one.kind is Kind.UNION:
        return "\n".join([*lines, f" = {' | '.join(one.members)}"]) if one.members else head
    body = _body(one)
    if body:
        if one.marks:
            lines.append("{")
        else:
            lines[-1] += " {"
        lines += [*body, "}"]
    return "\n".join(lines)


def _body(one: MergedType) -> list[str]:
    lines: list[str] = []
    items: Iterable[MergedField | MergedArgument | MergedValue]
    if one.kind is Kind.ENUM:
        items = one.values.values()
    elif one.kind is Kind.INPUT:
        items = one.input_fields.values()
    else:
        items = one.fields.values()
    for item in items:
        described = _description(item.description, "  ")
        if described and lines:
            lines.append("")
        lines += described
        lines.append(f"  {_item(item)}{_marks(item.marks)}")
    return lines


def _item(item: MergedField | MergedArgument | MergedValue) -> str:
    if isinstance(item, MergedValue):
        return item.name
    if isinstance(item, MergedArgument):
        return f"{item.name}: {item.type}{_default(item)}"
    return f"{item.name}{_arguments(item.arguments, '  ')}: {item.type}"


def _arguments(arguments: Mapping[str, MergedArgument], indent: str) -> str:
    if not arguments:
        return ""
    texts = [
        f"{argument.name}: {argument.type}{_default(argument)}{_marks(argument.marks)}"
        for argument in arguments.values()
    ]
    if not any(argument.description for argument in arguments.values()):
        return f"({', '.join(texts)})"
    lines = []
    for argument, text in zip(arguments.values(), texts, strict=True):
        lines += _description(argument.description, f"{indent}  ")
        lines.append(f"{indent}  {text}")
    return "\n".join(["(", *lines, f"{indent})"])


def _default(argument: MergedArgument) -> str:
    return f" = {value_text(argument.default)}" if argument.has_default else ""


def _marks(marks: Iterable[Mark]) -> str:
    return "".join(f" {_mark(mark)}" for mark in marks)


def _mark(mark: Mark) -> str:
    if not mark.arguments:
        return f"@{mark.name}"
    inner = ", ".join(f"{name}: {value_text(value)}" for name, value in mark.arguments.items())
    return f"@{mark.name}({inner})"


def _description(text: str | None, indent: str) -> list[str]:
    if text is None:
        return []
    escaped = text.replace('"""', '\\"""')
    if "\n" not in escaped and not escaped.endswith(('"', "\\")):
        return [f'{indent}"""{escaped}"""']
    lines = [f"{indent}{line}" if line else "" for line in escaped.split("\n")]
    return [f'{indent}"""', *lines, f'{indent}"""']
