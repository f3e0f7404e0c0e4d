"""A subgraph's SDL, read and judged by itself.

The order of the stages is fixed, each ends what comes after it: syntax; links; references;
definitions and kinds; GraphQL; `@provides` on leaves; federation's own rules. Documents of
version 1 are upgraded (`upgrade`) before the last two, with all subgraphs at hand.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from graphql import (
    ConstDirectiveNode,
    DirectiveDefinitionNode,
    DocumentNode,
    GraphQLSyntaxError,
    parse,
)

from gateway.federation.composition import links as linking
from gateway.federation.composition import specs
from gateway.federation.composition.definitions import check_definitions
from gateway.federation.composition.links import LinkRefused, Names
from gateway.federation.composition.reading import Reading, invalid, read
from gateway.federation.composition.rules_context import contexts
from gateway.federation.composition.rules_fieldsets import (
    field_sets,
    impossible_provides,
    key_shareable,
    resolve_extension_keys,
)
from gateway.federation.composition.rules_usage import usage
from gateway.federation.composition.subgraph import Applied, Kind, Subgraph
from gateway.federation.composition.upgrade import upgrade
from gateway.federation.composition.validity import (
    unknown_directives,
    unknown_references,
    validity,
    wrong_references,
)
from gateway.federation.errors import CompositionError

MAX_TOKENS = 1_000_000
"""Longer documents are refused unread; a schema of 200 types has about 10,000 tokens."""

Service = tuple[str, str, str]
"""(name, URL, SDL) of a subgraph."""


@dataclass(slots=True)
class Loaded:
    """A subgraph that is valid GraphQL; federation's rules are still to be asked."""

    subgraph: Subgraph
    directives: frozenset[str]


def load(name: str, url: str, sdl: str) -> tuple[Subgraph | None, list[CompositionError]]:
    """One subgraph by itself. A document of version 1 is upgraded as if it were alone."""
    subgraphs, errors = load_all([(name, url, sdl)])
    return (subgraphs[0] if subgraphs else None), errors


def load_all(services: Sequence[Service]) -> tuple[list[Subgraph], list[CompositionError]]:
    """All subgraphs of a supergraph, by name; none when there are errors (of all of them)."""
    loaded, errors = _read_all(services)
    for each in loaded:
        if each.subgraph.version > specs.VERSION_ONE:
            errors += _at(each.subgraph.name, _rules(each))
    if errors:
        return [], errors
    keyless = list(_old_interface_keys([each.subgraph for each in loaded]))
    refused = upgrade([each.subgraph for each in loaded])
    for each in loaded:
        if each.subgraph.version == specs.VERSION_ONE:
            problems = refused.get(each.subgraph.name) or _rules(each)
            errors += _at(each.subgraph.name, problems)
    if errors or keyless:
        return [], errors or keyless
    for each in loaded:
        key_shareable(each.subgraph)
    return [each.subgraph for each in loaded], []


def _old_interface_keys(subgraphs: Sequence[Subgraph]) -> Iterable[CompositionError]:
    """Interface objects of an interface that has a key in a subgraph of version 1.

    There such a key does not promise that the subgraph can tell an object's type by it.
    """
    objects: dict[str, list[str]] = {}
    keyed: dict[str, list[str]] = {}
    for subgraph in subgraphs:
        for definition in subgraph.types.values():
            names = {each.name for each in definition.directives if each.identity is not None}
            if "interfaceObject" in names:
                objects.setdefault(definition.name, []).append(subgraph.name)
            old = subgraph.version == specs.VERSION_ONE and definition.kind is Kind.INTERFACE
            if old and "key" in names:
                keyed.setdefault(definition.name, []).append(subgraph.name)
    for name in objects.keys() & keyed.keys():
        yield CompositionError(
            "INTERFACE_OBJECT_USAGE_ERROR",
            f'"{name}" is an @interfaceObject in {", ".join(objects[name])}, which needs subgraphs'
            f" that resolve its type name by a key; the keys of interfaces in"
            f" {', '.join(keyed[name])}, of federation 1, do not promise that. Upgrade to"
            " federation 2, or remove them.",
            (*objects[name], *keyed[name]),
        )


def _read_all(services: Sequence[Service]) -> tuple[list[Loaded], list[CompositionError]]:
    """The subgraphs that are valid GraphQL, and what is wrong with the others."""
    loaded: list[Loaded] = []
    errors: list[CompositionError] = []
    for name, url, sdl in sorted(services, key=lambda service: service[0]):
        try:
            found, problems = _valid(name, url, sdl)
        except RecursionError:
            found, problems = None, [invalid("The document is nested too deeply")]
        errors += _at(name, problems)
        if found is not None:
            loaded.append(found)
    return loaded, errors


def _at(name: str, problems: Iterable[CompositionError]) -> list[CompositionError]:
    """Errors with the subgraph they lie in."""
    return [
        replace(problem, message=f"[{name}] {problem.message}", subgraphs=(name,))
        for problem in problems
    ]


def _valid(name: str, url: str, sdl: str) -> tuple[Loaded | None, list[CompositionError]]:
    """The stages up to valid GraphQL; the first with errors is the last."""
    try:
        document = parse(sdl, no_location=True, max_tokens=MAX_TOKENS)
    except GraphQLSyntaxError as problem:
        return None, [_unread(problem)]
    misused: list[CompositionError] = []
    try:
        names = _names(document, misused)
    except LinkRefused as problem:
        return None, list(problem.errors)
    reading = read(document, names)
    problems = _first_look(reading, misused)
    if not problems:
        problems = [
            *misused,
            *_known_versions(names),
            *check_definitions(reading),
            *wrong_references(reading),
        ]
    if not problems:
        problems = list(validity(reading))
    if problems:
        return None, problems
    return _loaded(name, url, reading), []


def _unread(problem: GraphQLSyntaxError) -> CompositionError:
    """A syntax error, with its place."""
    at = problem.locations[0] if problem.locations else None
    told = invalid(problem.message)
    return replace(told, line=at.line, column=at.column) if at else told


def _first_look(reading: Reading, misused: list[CompositionError]) -> list[CompositionError]:
    """What is judged before anything else: where the link spec is linked openly, the schema's own
    directives come first and its imports last; else imports come first."""
    names = reading.names
    explicit = any(link.identity == specs.LINK for link in names.links)
    if misused and not explicit:
        return misused
    if explicit:
        unknown = list(unknown_directives(reading, schema_only=True))
        if unknown:
            return unknown
    return [*reading.errors, *unknown_references(reading)]


def _names(document: DocumentNode, problems: list[CompositionError]) -> Names:
    """What the document links; a document of version 1 links nothing that counts."""
    applied = linking.schema_directives(document)
    called = _link_directive(document, applied)
    if called is None:
        return Names([], specs.VERSION_ONE)
    found = [
        linking.read_link(directive, problems)
        for directive in applied
        if directive.name.value == called
    ]
    duplicates = list(linking.check_aliases(found))
    if duplicates:
        raise LinkRefused(*duplicates)
    for link in found:
        if link.identity in {specs.LINK, specs.CORE} and link.version != (1, 0):
            raise linking.refused(
                "UNKNOWN_LINK_VERSION",
                f"Schema uses unknown version v{link.version[0]}.{link.version[1]}"
                " of the link spec",
            )
    if not problems:
        problems += linking.check_imports(found)
    federation = next((link for link in found if link.identity == specs.FEDERATION), None)
    return Names(found, specs.VERSION_ONE if federation is None else federation.version)


def _refuse_core(document: DocumentNode, applied: Sequence[ConstDirectiveNode]) -> None:
    """The core spec, `@link` before it had that name, is of supergraphs long gone."""
    for directive in applied:
        feature = linking.value(directive, "feature")
        if (
            directive.name.value == "core"
            and str(feature).startswith(specs.CORE)
            and _defines(document, "core")
        ):
            raise linking.refused(
                "UNKNOWN_LINK_VERSION", f"The core spec ({feature}) became the link spec, v1.0"
            )


def _defines(document: DocumentNode, name: str) -> bool:
    """Whether a document defines a directive of a name."""
    return any(
        isinstance(node, DirectiveDefinitionNode) and node.name.value == name
        for node in document.definitions
    )


def _link_directive(document: DocumentNode, applied: Sequence[ConstDirectiveNode]) -> str | None:
    """What `@link` is called in a document that uses specs, None for version 1.

    Either the link spec links itself, under whatever name, or `@link` names federation.
    """
    _refuse_core(document, applied)
    for directive in applied:
        url = linking.value(directive, "url")
        if not isinstance(url, str) or not url.startswith(f"{specs.LINK}/"):
            continue
        try:
            link = linking.read_link(directive, [])
        except LinkRefused:
            continue
        if link.identity == specs.LINK and directive.name.value in {
            link.alias,
            link.imports.get("@link", "")[1:],
        }:
            return directive.name.value
    for directive in applied:
        url = linking.value(directive, "url")
        named = directive.name.value == "link" and isinstance(url, str)
        if named and str(url).startswith(specs.FEDERATION):
            return "link"
    return None


def _known_versions(names: Names) -> Iterable[CompositionError]:
    link = names.federation
    if link is not None and not (2, 0) <= link.version <= specs.NEWEST:
        yield CompositionError(
            "UNKNOWN_FEDERATION_LINK_VERSION",
            f"Invalid version v{link.version[0]}.{link.version[1]} for the federation feature"
            " in @link directive on schema",
        )


def _loaded(name: str, url: str, reading: Reading) -> Loaded:
    names = reading.names
    subgraph = Subgraph(
        name=name,
        url=url,
        version=names.version,
        types=reading.types,
        directives=reading.directives,
        links=list(names.links),
        schema_directives=reading.schema_directives,
        query=reading.roots.get("query"),
        mutation=reading.roots.get("mutation"),
        subscription=reading.roots.get("subscription"),
        description=reading.description,
        machinery=list(_on_machinery(reading)),
    )
    known = specs.federation_directives(names.version)
    directives = {names.directive(canonical) for canonical in known}
    directives |= {"skip", "include", "deprecated", "specifiedBy", names.link_directive}
    return Loaded(subgraph, frozenset(directives | set(reading.directives)))


def _on_machinery(reading: Reading) -> Iterable[Applied]:
    """Directives on the definitions of federation's and link's own elements."""
    for definition in reading.machinery.values():
        yield from definition.directives
        for output in definition.fields.values():
            yield from output.directives
        for value in definition.values.values():
            yield from value.directives
    for directive in reading.machinery_directives.values():
        for argument in directive.arguments.values():
            yield from argument.directives


def _rules(loaded: Loaded) -> list[CompositionError]:
    """Federation's rules on a valid document."""
    resolve_extension_keys(loaded.subgraph)
    alone = list(impossible_provides(loaded.subgraph))
    if alone:
        return alone
    subgraph = loaded.subgraph
    return [*field_sets(subgraph, loaded.directives), *usage(subgraph), *contexts(subgraph)]
