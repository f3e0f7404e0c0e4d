"""`@link`: which specs a document uses, and what their directives and types are called in it."""

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from graphql import (
    ConstArgumentNode,
    ConstDirectiveNode,
    DocumentNode,
    ListValueNode,
    ObjectValueNode,
    SchemaDefinitionNode,
    SchemaExtensionNode,
    StringValueNode,
    ValueNode,
    print_ast,
    value_from_ast_untyped,
)

from gateway.federation.composition import specs
from gateway.federation.composition.subgraph import Link
from gateway.federation.errors import CompositionError

_VERSION = re.compile(r"v(\d{1,9})\.(\d{1,9})", re.ASCII)
_NAME = re.compile(r"[_A-Za-z][_0-9A-Za-z]*", re.ASCII)


class LinkRefused(Exception):
    """A link that cannot be read: `errors` say why."""

    def __init__(self, *errors: CompositionError) -> None:
        super().__init__(errors[0].message)
        self.errors = errors


def refused(code: str, message: str) -> LinkRefused:
    """One error as an exception."""
    return LinkRefused(CompositionError(code, message))


def parse_url(url: str) -> tuple[str, str, specs.Version]:
    """A spec's URL as (identity, name, version). Raises LinkRefused(INVALID_LINK_IDENTIFIER)."""
    code = "INVALID_LINK_IDENTIFIER"
    try:
        parts = urlsplit(url)
    except ValueError:
        raise refused(code, f'"{url}" is not a URL') from None
    if not parts.scheme:
        raise refused(code, f'"{url}" is not a URL')
    segments = parts.path.split("/")
    if not any(segments):
        raise refused(code, f'The URL of a feature needs a path, "{url}" has none')
    if not segments[-1]:
        raise refused(code, f'The URL of a feature ends with its version, "{url}" does not')
    match = _VERSION.fullmatch(segments[-1])
    if match is None:
        raise refused(code, f"Expected a version string (of the form v1.2), got {segments[-1]}")
    path = [quote(segment, safe="%~!$&'()*+,;=:@") for segment in segments[:-1]]
    name = path[-1] if path else ""
    if not name:
        raise refused(code, f'The URL of a feature names it before the version, "{url}" does not')
    identity = f"{parts.scheme}://{parts.netloc}{'/'.join(path)}"
    return identity, name, (int(match[1]), int(match[2]))


def schema_directives(document: DocumentNode) -> list[ConstDirectiveNode]:
    """The directives on the schema's definition and extensions, in order."""
    return [
        directive
        for node in document.definitions
        if isinstance(node, SchemaDefinitionNode | SchemaExtensionNode)
        for directive in node.directives or ()
    ]


def argument(directive: ConstDirectiveNode, name: str) -> ValueNode | None:
    """The value given for an argument, None without."""
    found: ConstArgumentNode
    for found in directive.arguments or ():
        if found.name.value == name:
            return found.value
    return None


def value(directive: ConstDirectiveNode, name: str) -> Any:
    """The value given for an argument, in Python; None without."""
    node = argument(directive, name)
    return None if node is None else value_from_ast_untyped(node)


def _imports(node: ValueNode | None, errors: list[CompositionError]) -> dict[str, str]:
    """What `import` says, original name → local name; mistakes go to `errors`."""
    found: dict[str, str] = {}
    code = "INVALID_LINK_DIRECTIVE_USAGE"
    values: Sequence[ValueNode] = ()
    if isinstance(node, ListValueNode):
        values = node.values
    elif node is not None and value_from_ast_untyped(node) is not None:
        errors.append(CompositionError(code, "@link(import:) must be a list"))
    for given in values:
        try:
            name, local = _import(given)
        except LinkRefused as problem:
            errors.extend(problem.errors)
            continue
        if found.get(name, local) != local:
            errors.append(CompositionError(code, f'"{name}" is imported twice, under two names'))
        if name.startswith("@") != local.startswith("@"):
            what = "directive" if name.startswith("@") else "type"
            errors.append(
                CompositionError(
                    code,
                    f'Invalid @link import renaming: {what} "{name}" cannot be called "{local}"'
                    " (names of directives start with @, names of types do not)",
                )
            )
        found[name] = local
    return found


def _import(node: ValueNode) -> tuple[str, str]:
    """One entry of `import`: (name, local name)."""
    code = "INVALID_LINK_DIRECTIVE_USAGE"
    if isinstance(node, StringValueNode):
        return node.value, node.value
    if not isinstance(node, ObjectValueNode):
        raise refused(code, f"Invalid entry {print_ast(node)} in @link(import:)")
    entry = {field.name.value: field.value for field in node.fields}
    unknown = set(entry) - {"name", "as"}
    if unknown:
        message = f'Unknown field "{min(unknown)}" in {print_ast(node)} of @link(import:)'
        raise refused(code, message)
    for key, given in entry.items():
        if not isinstance(given, StringValueNode):
            message = f'"{key}" must be a string in {print_ast(node)} of @link(import:)'
            raise refused(code, message)
        if key == "as" and not _NAME.fullmatch(given.value.removeprefix("@")):
            message = f'"as" must be a name in {print_ast(node)} of @link(import:)'
            raise refused(code, message)
    if "name" not in entry:
        raise refused(code, f'"name" is missing in {print_ast(node)} of @link(import:)')
    name = str(value_from_ast_untyped(entry["name"]))
    return name, str(value_from_ast_untyped(entry["as"])) if "as" in entry else name


def elements(link: Link) -> frozenset[str] | None:
    """What a linked spec defines (directives with `@`), None for a spec nobody here knows."""
    if link.identity == specs.FEDERATION:
        directives = specs.federation_directives(link.version)
        return frozenset(f"@{name}" for name in directives) | frozenset(
            specs.federation_scalars(link.version)
        )
    if link.identity == specs.LINK:
        return frozenset({"@link", *specs.LINK_TYPES})
    return None


def read_link(directive: ConstDirectiveNode, errors: list[CompositionError]) -> Link:
    """One `@link`. Mistakes in its imports go to `errors`; raises LinkRefused for the rest."""
    url = value(directive, "url")
    if not isinstance(url, str):
        raise refused("INVALID_LINK_IDENTIFIER", f"@link(url:) must be a string, got {url!r}")
    identity, name, version = parse_url(url)
    alias = value(directive, "as")
    if alias is not None and not isinstance(alias, str):
        raise refused("INVALID_LINK_DIRECTIVE_USAGE", "@link(as:) must be a string")
    purpose = value(directive, "for")
    link = Link(
        identity=identity,
        name=name,
        version=version,
        alias=name if alias is None else alias,
        imports=_imports(argument(directive, "import"), errors),
        purpose=purpose if isinstance(purpose, str) else None,
    )
    _check_alias(link)
    return link


def _check_alias(link: Link) -> None:
    """The prefix must be one: a name without `__` that does not end in `_`."""
    alias = link.alias
    if alias.replace("-", "_") != alias and _NAME.fullmatch(alias.replace("-", "_")):
        return  # A spec's own name may have a dash; it can then only be imported from.
    reason = None
    if not _NAME.fullmatch(alias):
        reason = "is not a valid GraphQL name"
    elif "__" in alias:
        reason = 'contains "__"'
    elif alias.endswith("_"):
        reason = 'ends in "_"'
    if reason:
        raise refused(
            "INVALID_LINK_DIRECTIVE_USAGE",
            f'Cannot link feature "{link.identity}" as "{alias}" since it {reason}',
        )


def check_aliases(links: Sequence[Link]) -> Iterable[CompositionError]:
    """No spec is linked twice, no two under one name; the first mistake only."""
    code = "INVALID_LINK_DIRECTIVE_USAGE"
    by_identity: dict[str, Link] = {}
    by_alias: dict[str, Link] = {}
    for link in links:
        if link.identity in by_identity:
            yield CompositionError(code, f'Feature "{link.identity}" is linked more than once')
            return
        other = by_alias.get(link.alias)
        if other is not None:
            yield CompositionError(
                code,
                f'Cannot link feature "{link.identity}" as "{link.alias}" since'
                f' "{other.identity}" already uses that name',
            )
            return
        by_identity[link.identity] = by_alias[link.alias] = link


def check_imports(links: Sequence[Link]) -> Iterable[CompositionError]:
    """No name is imported for two things, looks like another's, or is unknown to its spec."""
    by_name: dict[str, tuple[str, Link]] = {}
    for link in links:
        for name, local in link.imports.items():
            taken = by_name.setdefault(local, (name, link))
            if taken != (name, link):
                yield CompositionError(
                    "INVALID_LINK_DIRECTIVE_USAGE",
                    f'Cannot import "{name}" of "{link.identity}" as "{local}" since'
                    f' "{taken[0]}" of "{taken[1].identity}" has that name',
                )
    by_alias = {"link": _LINK} | {link.alias: link for link in links}
    yield from _confused_names(links, by_alias)
    yield from _shadowing(links)
    yield from _unknown_imports(links)


_LINK = Link(specs.LINK, "link", (1, 0), "link")
_STANDARD = frozenset({"@deprecated", "@specifiedBy", "@skip", "@include"})


def _shadowing(links: Sequence[Link]) -> Iterable[CompositionError]:
    """Imports under names that GraphQL, or version 1 of federation, gave away already."""
    federation = any(link.identity == specs.FEDERATION for link in links)
    for link in links:
        own = link.identity in {f"{specs.APOLLO}/tag", f"{specs.APOLLO}/inaccessible"}
        if (
            own
            and not federation
            and link.imports.get(f"@{link.name}", link.alias)
            in {
                link.name,
                f"@{link.name}",
            }
        ):
            yield CompositionError(
                "INVALID_LINK_DIRECTIVE_USAGE",
                f'Import "@{link.name}" from "{specs.FEDERATION}", not from "{link.identity}"',
            )
        for name, local in link.imports.items():
            if local in _STANDARD and link.identity == specs.FEDERATION:
                yield CompositionError(
                    "DIRECTIVE_DEFINITION_INVALID",
                    f'"{name}" of "{link.identity}" cannot be called "{local}",'
                    " which is a directive of GraphQL's own",
                )
            if local.removeprefix("@").startswith("__"):
                yield CompositionError(
                    "INVALID_GRAPHQL",
                    f'Name "{local.removeprefix("@")}" must not begin with "__",'
                    " which is reserved by GraphQL introspection.",
                )


def _confused_names(links: Sequence[Link], by_alias: dict[str, Link]) -> Iterable[CompositionError]:
    """An import must not look like a prefixed name of a linked spec."""
    for link in links:
        for name, local in link.imports.items():
            bare = local.removeprefix("@")
            prefix, separator, rest = bare.partition("__")
            other = by_alias.get(prefix)
            if other is None or (other is link and name == local):
                continue
            if not separator and not local.startswith("@"):
                continue
            if not separator:
                rest = other.name
            if other is link and f"@{rest}" == name:
                continue
            yield CompositionError(
                "INVALID_LINK_DIRECTIVE_USAGE",
                f'Cannot import "{name}" of "{link.identity}" as "{local}" since it looks like'
                f' a name of "{other.identity}"',
            )


def _unknown_imports(links: Sequence[Link]) -> Iterable[CompositionError]:
    """A spec we know must have what is imported; tag and the like come from federation."""
    for link in links:
        known = elements(link)
        for name in link.imports:
            if known is None or name in known:
                continue
            wrong = f"@{name}" if f"@{name}" in known else name.removeprefix("@")
            hint = f' Did you mean "{wrong}"?' if wrong in known else ""
            yield CompositionError(
                "INVALID_LINK_DIRECTIVE_USAGE",
                f'Cannot import unknown element "{name}" of "{link.identity}".{hint}',
            )


class Names:
    """What the directives of linked specs are called in a document, both ways."""

    def __init__(self, links: Sequence[Link], version: specs.Version) -> None:
        """`version` is federation's; without a federation link its names are bare."""
        self.links = links
        self.version = version
        self._canonical: dict[str, tuple[str, str]] = {}  # local → (identity, canonical)
        self._imported: dict[str, Link] = {}
        for link in links:
            for name, local in link.imports.items():
                if name.startswith("@"):
                    self._imported[local[1:]] = link
                    self._canonical[local[1:]] = (link.identity, name[1:])
        self._federation = next((k for k in links if k.identity == specs.FEDERATION), None)
        self._link = next((k for k in links if k.identity == specs.LINK), None)

    @property
    def federation(self) -> Link | None:
        """The link to federation's spec."""
        return self._federation

    def directive(self, canonical: str) -> str:
        """What federation's directive is called here."""
        return self.local(self._federation, f"@{canonical}").removeprefix("@")

    def type(self, canonical: str) -> str:
        """What federation's type is called here; with a leading `_` in version 1."""
        if self._federation is None:
            return f"_{canonical}"
        return self.local(self._federation, canonical)

    def link_type(self, canonical: str) -> str:
        """What a type of the link spec is called here."""
        if self._link is None:
            return f"link__{canonical}"
        return self.local(self._link, canonical)

    @property
    def link_directive(self) -> str:
        """What `@link` is called here."""
        return self.local(self._link, "@link").removeprefix("@") if self._link else "link"

    def local(self, link: Link | None, name: str) -> str:
        """What an element of a linked spec is called here: imported, the spec's own, prefixed."""
        if link is None or name in link.imports:
            return link.imports[name] if link else name
        bare = name.removeprefix("@")
        at = name[: len(name) - len(bare)]
        return f"{at}{link.alias}" if bare == link.name and at else f"{at}{link.alias}__{bare}"

    def resolve(self, local: str) -> tuple[str | None, str]:
        """(identity of its spec, canonical name) of a directive; (None, its name) of an own one."""
        if local in self._canonical:
            return self._canonical[local]
        prefix, separator, rest = local.partition("__")
        for link in self.links:
            if link.alias == prefix:
                name = rest if separator else link.name
                if f"@{name}" in link.imports:
                    return None, local
                return link.identity, name
        if self._federation is None and local in specs.federation_directives(specs.NEWEST):
            return specs.FEDERATION, local
        return None, local
