"""`@composeDirective`: custom directives that subgraphs hand on to the supergraph."""

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.federation.composition import specs
from gateway.federation.composition.features import CARRIED
from gateway.federation.composition.links import Names
from gateway.federation.composition.marks import merge_marks
from gateway.federation.composition.merged import (
    MergedArgument,
    MergedDirective,
    default_value,
    element,
    type_text,
)
from gateway.federation.composition.state import APOLLO, State, subgraph_words
from gateway.federation.composition.subgraph import DirectiveDefinition, Link
from gateway.federation.errors import CompositionError

_CODE = "DIRECTIVE_COMPOSITION_ERROR"


@dataclass(frozen=True, slots=True)
class _Request:
    """One directive that one subgraph asks to compose. `name` is the spec's, `local` its own."""

    index: int
    link: Link
    name: str
    local: str


def merge_composed(state: State) -> None:
    """Define and link what subgraphs ask to compose; report what cannot be."""
    requests = [
        request for index in range(len(state.subgraphs)) for request in _requests(state, index)
    ]
    refused: set[str] = set()
    _check_names(state, requests, refused)
    by_identity: dict[str, list[_Request]] = {}
    for request in requests:
        by_identity.setdefault(request.link.identity, []).append(request)
    for identity, asked in by_identity.items():
        majors = {request.link.version[0] for request in asked}
        if len(majors) > 1:
            message = f'Subgraphs compose different major versions of "{identity}"'
            state.error(_CODE, message, sorted({request.index for request in asked}))
            continue
        _hint_others(state, identity, asked)
        _compose(state, identity, [one for one in asked if one.local not in refused])


def _requests(state: State, index: int) -> Iterator[_Request]:
    subgraph = state.subgraphs[index]
    names = Names(subgraph.links, subgraph.version)
    seen = set()
    for applied in subgraph.schema_directives:
        if applied.name != "composeDirective" or not (applied.identity or "").startswith(APOLLO):
            continue
        text = applied.arguments.get("name")
        where = subgraph_words([subgraph.name])
        if not isinstance(text, str) or not text:
            state.error(_CODE, f"@composeDirective in {where} names no directive", [index])
        elif not text.startswith("@"):
            message = f'@composeDirective "{text}" in {where}: the name must start with "@"'
            state.error(_CODE, message, [index])
        elif text not in seen:
            seen.add(text)
            request = _request(state, index, names, text)
            if request is not None:
                yield request


def _request(state: State, index: int, names: Names, text: str) -> _Request | None:
    """One directive asked for by name; None with a report where it cannot be composed."""
    subgraph = state.subgraphs[index]
    where = f'Directive "{text}" in {subgraph_words([subgraph.name])}'
    local = text[1:]
    identity, name = names.resolve(local)
    if identity is None and local == names.link_directive:
        identity = specs.LINK
    apollos = (identity or "").startswith(APOLLO)
    if apollos and name in CARRIED:
        state.hint(
            "DIRECTIVE_COMPOSITION_INFO", f"{where} is composed without being asked", [index]
        )
        return None
    link = next((one for one in subgraph.links if one.identity == identity), None)
    if apollos:
        state.error(_CODE, f"{where} is federation's and cannot be composed", [index])
    elif local not in subgraph.directives:
        state.error(_CODE, f"{where} is composed but not defined", [index])
    elif link is None:
        state.error(_CODE, f"{where} belongs to no @link and cannot be composed", [index])
    else:
        return _Request(index, link, name, local)
    return None


def _check_names(state: State, requests: list[_Request], refused: set[str]) -> None:
    """One directive has one name, and one name stands for one directive."""
    for request in requests:
        taken = next(
            (name for name, locals_ in state.carried_names.items() if request.local in locals_),
            None,
        )
        if taken is not None:
            where = subgraph_words(state.names([request.index]))
            message = (
                f'Directive "@{request.local}" in {where} cannot be composed: its name is that '
                f'of "@{taken}" elsewhere'
            )
            state.error(_CODE, message, [request.index])
            refused.add(request.local)
    found_names: dict[tuple[str, str], set[str]] = {}
    owners: dict[str, set[tuple[str, str]]] = {}
    for request in requests:
        own = (request.link.identity, request.name)
        found_names.setdefault(own, set()).add(request.local)
        owners.setdefault(request.local, set()).add(own)
    for (identity, name), found in found_names.items():
        if len(found) > 1:
            words = ", ".join(element(f"@{one}") for one in sorted(found))
            state.error(_CODE, f'"@{name}" of "{identity}" is composed as {words}')
            refused |= found
    for local, sources in owners.items():
        if len(sources) > 1:
            state.error(_CODE, f'Composed directive "@{local}" comes from several specs')
            refused.add(local)


def _hint_others(state: State, identity: str, asked: list[_Request]) -> None:
    composing = {request.index for request in asked}
    locals_ = {request.name: request.local for request in asked}
    major = asked[0].link.version[0]
    for index, subgraph in enumerate(state.subgraphs):
        link = next((one for one in subgraph.links if one.identity == identity), None)
        if link is None or index in composing:
            continue
        if link.version[0] != major:
            message = f'"{identity}" has different major versions across subgraphs'
            state.hint("DIRECTIVE_COMPOSITION_INFO", message, [index])
            continue
        names = Names(subgraph.links, subgraph.version)
        for name, local in locals_.items():
            own = names.local(link, f"@{name}").removeprefix("@")
            if own != local and own in subgraph.directives:
                message = f'Composed directive "@{local}" is "@{own}" where it is not composed'
                state.hint("DIRECTIVE_COMPOSITION_WARN", message, [index])


def _compose(state: State, identity: str, asked: list[_Request]) -> None:
    if not asked:
        return
    newest = max(asked, key=lambda request: (request.link.version, request.index))
    latest = state.subgraphs[newest.index]
    names = Names(latest.links, latest.version)
    imports = {}
    for request in asked:
        state.composed.add((request.index, request.local))
        if request.local in state.merged.directives:
            continue
        definition = latest.directives.get(request.local)
        if definition is None or names.resolve(request.local)[0] != identity:
            where = subgraph_words(state.names([newest.index]))
            message = f'"@{request.local}" of "{identity}" is not defined in {where}'
            state.later.append(CompositionError(_CODE, message, (latest.name,)))
            continue
        imports[f"@{request.name}"] = f"@{request.local}"
        state.merged.directives[request.local] = _definition(state, newest.index, definition)
    link = Link(identity, newest.link.name, newest.link.version, newest.link.name, imports)
    state.merged.links.append(link)


def _definition(state: State, index: int, source: DirectiveDefinition) -> MergedDirective:
    arguments = {}
    for argument in source.arguments.values():
        default, there = default_value(argument.default)
        arguments[argument.name] = MergedArgument(
            argument.name,
            type_text(argument.type),
            default,
            there,
            argument.description,
            merge_marks(state, {index: argument.directives}, f"@{source.name}({argument.name}:)"),
        )
    return MergedDirective(
        source.name, arguments, list(source.locations), source.repeatable, source.description
    )
