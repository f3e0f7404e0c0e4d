"""The directives of Apollo's specs that live on in the supergraph: definitions, links, names."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.federation.composition.merged import (
    Mark,
    MergedArgument,
    MergedDirective,
    MergedType,
    Symbol,
)
from gateway.federation.composition.state import APOLLO, State, who_says_what
from gateway.federation.composition.subgraph import Applied, Kind, Link, Subgraph

_OUTPUT = "FIELD_DEFINITION OBJECT INTERFACE"
_ACCESS = f"{_OUTPUT} SCALAR ENUM"
_HIDING = (
    f"{_OUTPUT} UNION ARGUMENT_DEFINITION SCALAR ENUM ENUM_VALUE INPUT_OBJECT "
    "INPUT_FIELD_DEFINITION"
)


@dataclass(frozen=True, slots=True)
class Carried:
    """A directive whose applications are merged. `arguments` as (name, type, default)."""

    name: str
    spec: str
    version: tuple[int, int]
    arguments: tuple[tuple[str, str, Any], ...]
    locations: str
    repeatable: bool = False
    purpose: str | None = None
    scalar: str | None = None

    @property
    def default_name(self) -> str:
        """Its name where the link imports nothing."""
        return self.name if self.name == self.spec else f"{self.spec}__{self.name}"


_ABSENT = object()
CARRIED = {
    carried.name: carried
    for carried in (
        Carried("tag", "tag", (0, 3), (("name", "String!", _ABSENT),), f"{_HIDING} SCHEMA", True),
        Carried("inaccessible", "inaccessible", (0, 2), (), _HIDING, purpose="SECURITY"),
        Carried(
            "cost",
            "cost",
            (0, 1),
            (("weight", "Int!", _ABSENT),),
            "ARGUMENT_DEFINITION ENUM FIELD_DEFINITION INPUT_FIELD_DEFINITION OBJECT SCALAR",
        ),
        Carried(
            "listSize",
            "cost",
            (0, 1),
            (
                ("assumedSize", "Int", _ABSENT),
                ("slicingArguments", "[String!]", _ABSENT),
                ("sizedFields", "[String!]", _ABSENT),
                ("requireOneSlicingArgument", "Boolean", True),
            ),
            "FIELD_DEFINITION",
        ),
        Carried("authenticated", "authenticated", (0, 1), (), _ACCESS, purpose="SECURITY"),
        Carried(
            "requiresScopes",
            "requiresScopes",
            (0, 1),
            (("scopes", "[[requiresScopes__Scope!]!]!", _ABSENT),),
            _ACCESS,
            purpose="SECURITY",
            scalar="requiresScopes__Scope",
        ),
        Carried(
            "policy",
            "policy",
            (0, 1),
            (("policies", "[[policy__Policy!]!]!", _ABSENT),),
            _ACCESS,
            purpose="SECURITY",
            scalar="policy__Policy",
        ),
        Carried(
            "context",
            "context",
            (0, 1),
            (("name", "String!", _ABSENT),),
            "INTERFACE OBJECT UNION",
            True,
            purpose="SECURITY",
            scalar="context__ContextFieldValue",
        ),
        Carried(
            "fromContext",
            "context",
            (0, 1),
            (("field", "context__ContextFieldValue", _ABSENT),),
            "ARGUMENT_DEFINITION",
            purpose="SECURITY",
        ),
    )
}


def is_carried(applied: Applied) -> bool:
    """Whether an application is of a directive of this table."""
    return applied.name in CARRIED and (applied.identity or "").startswith(APOLLO)


def add_features(state: State) -> None:
    """Link, define and name what any subgraph applies; names must agree where it is applied."""
    local: dict[str, dict[int, str]] = {}
    for index, subgraph in enumerate(state.subgraphs):
        for applied in every_application(subgraph):
            if is_carried(applied):
                local.setdefault(applied.name, {}).setdefault(index, _local_name(applied))
    state.carried_names = {
        name: {*found.values(), *_imported_names(state, name)} for name, found in local.items()
    }
    specs: dict[str, list[Carried]] = {}
    for carried in CARRIED.values():
        specs.setdefault(carried.spec, []).append(carried)
    for spec, members in specs.items():
        applied_names = [member.name for member in members if member.name in local]
        if applied_names:
            _add_spec(state, spec, members, local)


def _imported_names(state: State, name: str) -> Iterator[str]:
    """What subgraphs call a directive, whether they apply it or not."""
    for subgraph in state.subgraphs:
        for link in subgraph.links:
            local = link.imports.get(f"@{name}")
            if local is not None and link.identity.startswith(APOLLO):
                yield local[1:]


def _add_spec(
    state: State, spec: str, members: list[Carried], local: dict[str, dict[int, str]]
) -> None:
    imports: dict[str, str] = {}
    for member in members:
        by_subgraph = local.get(member.name, {}) if member.name != "fromContext" else {}
        names = list(dict.fromkeys(by_subgraph.values()))
        if len(names) > 1:
            words = who_says_what(
                state, {i: f'it is called "@{name}"' for i, name in by_subgraph.items()}
            )
            message = f'Directive "@{member.name}" has different names across subgraphs: {words}'
            state.error("LINK_IMPORT_NAME_MISMATCH", message, by_subgraph)
        name = names[0] if names else member.default_name
        if name != member.default_name:
            imports[f"@{member.name}"] = f"@{name}"
        state.merged.local_names[member.name] = name
        state.merged.directives[name] = _definition(member, name)
        if member.scalar:
            state.merged.types[member.scalar] = MergedType(
                member.scalar, Kind.SCALAR, marks=_linking(state, spec)
            )
    first = members[0]
    state.merged.links.append(
        Link(f"{APOLLO}{spec}", spec, first.version, spec, imports, first.purpose)
    )


def _linking(state: State, spec: str) -> list[Mark]:
    """`join__type`s of the subgraphs that link a spec beside federation's."""
    return [
        Mark("join__type", {"graph": Symbol(state.graph(index))})
        for index, subgraph in enumerate(state.subgraphs)
        if any(link.identity == f"{APOLLO}{spec}" for link in subgraph.links)
    ]


def _definition(carried: Carried, name: str) -> MergedDirective:
    arguments = {
        argument: MergedArgument(
            argument,
            type_,
            None if default is _ABSENT else default,
            has_default=default is not _ABSENT,
        )
        for argument, type_, default in carried.arguments
    }
    return MergedDirective(name, arguments, carried.locations.split(), carried.repeatable)


def _local_name(applied: Applied) -> str:
    return applied.node.name.value if applied.node is not None else applied.name


def every_application(subgraph: Subgraph) -> list[Applied]:
    """All applications of directives in a subgraph."""
    found = [*subgraph.schema_directives, *subgraph.machinery]
    for definition in subgraph.types.values():
        found += definition.directives
        for source in definition.fields.values():
            found += source.directives
            for argument in source.arguments.values():
                found += argument.directives
        for argument in definition.input_fields.values():
            found += argument.directives
        for value in definition.values.values():
            found += value.directives
    for directive in subgraph.directives.values():
        for argument in directive.arguments.values():
            found += argument.directives
    return found
