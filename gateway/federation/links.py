"""Which names a document gives to the specs it links: `@link(url:, as:, import:)` and `@core`."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from graphql import (
    ConstDirectiveNode,
    DocumentNode,
    SchemaDefinitionNode,
    SchemaExtensionNode,
    StringValueNode,
    ValueNode,
    value_from_ast_untyped,
)

from gateway.federation.errors import InvalidSupergraph

SPECS = "https://specs.apollo.dev/"
_URL = re.compile(r"^(?P<identity>.+)/v(?P<major>\d+)\.(?P<minor>\d+)/?$")


@dataclass(frozen=True, slots=True)
class Feature:
    """One linked spec: what it is, and how its elements are called in this document.

    `imports` maps an element (`@key`, `FieldSet`) to its local name; others are prefixed.
    """

    identity: str
    version: tuple[int, int]
    prefix: str
    imports: Mapping[str, str] = field(default_factory=dict)
    purpose: str | None = None

    @property
    def name(self) -> str:
        """The spec's own name, the last part of its identity."""
        return self.identity.rsplit("/", 1)[-1]

    def directive(self, name: str) -> str:
        """The local name of the spec's directive `name`."""
        imported = self.imports.get("@" + name)
        if imported is not None:
            return imported.removeprefix("@")
        return self.prefix if name == self.name else f"{self.prefix}__{name}"

    def type(self, name: str) -> str:
        """The local name of the spec's type `name`."""
        return self.imports.get(name, f"{self.prefix}__{name}")

    def defines_directive(self, name: str) -> bool:
        """Whether a directive of this local name belongs to the spec."""
        own = name == self.prefix or name.startswith(self.prefix + "__")
        return own or "@" + name in self.imports.values()

    def defines_type(self, name: str) -> bool:
        """Whether a type of this local name belongs to the spec."""
        return name.startswith(self.prefix + "__") or name in self.imports.values()


def arguments_of(node: ConstDirectiveNode) -> dict[str, object]:
    """A directive's arguments as Python values."""
    return {one.name.value: value_from_ast_untyped(one.value) for one in node.arguments or ()}


def schema_directives(document: DocumentNode) -> Iterator[ConstDirectiveNode]:
    """The directives of the schema, of its definition and of its extensions."""
    for definition in document.definitions:
        if isinstance(definition, SchemaDefinitionNode | SchemaExtensionNode):
            yield from definition.directives or ()


def features(document: DocumentNode) -> tuple[Feature, ...]:
    """The specs a document links, in order.

    Raises:
        InvalidSupergraph: a link without a URL of the form `identity/vX.Y`.
    """
    applied = list(schema_directives(document))
    names = {one.name.value for one in applied if _links_itself(one)}
    return tuple(_feature(one) for one in applied if one.name.value in names)


def _links_itself(node: ConstDirectiveNode) -> bool:
    """A link is known by the entry that links the spec of links (or its ancestor, core)."""
    return any(
        argument.name.value in ("url", "feature")
        and isinstance(argument.value, StringValueNode)
        and argument.value.value.startswith((SPECS + "link/", SPECS + "core/"))
        for argument in node.arguments or ()
    )


def _feature(node: ConstDirectiveNode) -> Feature:
    values: dict[str, ValueNode] = {one.name.value: one.value for one in node.arguments or ()}
    arguments = arguments_of(node)
    url = arguments.get("url", arguments.get("feature"))
    found = _URL.match(url) if isinstance(url, str) else None
    if found is None:
        raise InvalidSupergraph(f"@{node.name.value} names no versioned spec: {url!r}")
    identity = found["identity"]
    alias = arguments.get("as")
    imported = arguments.get("import")
    purpose = arguments.get("for") if "for" in values else None
    return Feature(
        identity=identity,
        version=(int(found["major"]), int(found["minor"])),
        prefix=alias if isinstance(alias, str) else identity.rsplit("/", 1)[-1],
        imports=dict(_imports(imported if isinstance(imported, list) else [])),
        purpose=purpose if isinstance(purpose, str) else None,
    )


def _imports(entries: list[object]) -> Iterator[tuple[str, str]]:
    for entry in entries:
        if isinstance(entry, str):
            yield entry, entry
        elif isinstance(entry, dict) and isinstance(entry.get("name"), str):
            local = entry.get("as", entry["name"])
            yield entry["name"], str(local)
