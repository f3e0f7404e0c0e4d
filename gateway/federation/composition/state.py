"""What the steps of merging share: the subgraphs in order, what they say of fields, reports."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from gateway.federation.composition.merged import Merged, MergedType
from gateway.federation.composition.subgraph import Applied, Kind, Subgraph, TypeDefinition
from gateway.federation.composition.usage import Usage
from gateway.federation.errors import CompositionError, Hint

APOLLO = "https://specs.apollo.dev/"


@dataclass(slots=True)
class EnumUse:
    """Where an enum stands in what was merged; one example each, for messages."""

    inputs: str | None = None
    outputs: str | None = None


@dataclass(slots=True)
class State:
    """The work in progress. Sources are keyed by the subgraph's place in `subgraphs`."""

    subgraphs: list[Subgraph]
    usages: list[Usage]
    merged: Merged
    errors: list[CompositionError] = field(default_factory=list)
    later: list[CompositionError] = field(default_factory=list)  # ends nothing by itself
    hints: list[Hint] = field(default_factory=list)
    enum_uses: dict[str, EnumUse] = field(default_factory=dict)
    subtypes: dict[str, set[str]] = field(default_factory=dict)  # supertype name to its subtypes
    interface_objects: set[str] = field(default_factory=set)
    definers: dict[str, dict[int, TypeDefinition]] = field(default_factory=dict)
    carried_names: dict[str, set[str]] = field(default_factory=dict)  # as subgraphs call them
    composed: set[tuple[int, str]] = field(default_factory=set)  # (subgraph, its directive)

    def graph(self, index: int) -> str:
        """The enum value of `join__Graph` of a subgraph."""
        return self.merged.graphs[self.subgraphs[index].name][0]

    def name(self, index: int) -> str:
        """The subgraph's own name."""
        return self.subgraphs[index].name

    def names(self, indices: Iterable[int]) -> tuple[str, ...]:
        """The names of subgraphs."""
        return tuple(self.subgraphs[index].name for index in indices)

    def relevant(self, parent: MergedType) -> list[int]:
        """The subgraphs that can resolve a field of a type: those that define it or abstract it."""
        found = set(self.definers.get(parent.name, ()))
        for interface in parent.interfaces:
            if interface in self.interface_objects:
                found |= self.definers[interface].keys()
        return sorted(found)

    def error(self, code: str, message: str, indices: Iterable[int] = ()) -> None:
        """Report why there is no supergraph."""
        self.errors.append(CompositionError(code, message, self.names(indices)))

    def hint(self, code: str, message: str, indices: Iterable[int] = ()) -> None:
        """Report what deserves a look."""
        self.hints.append(Hint(code, message, self.names(indices)))

    def used_enum(self, name: str, where: str, *, output: bool) -> None:
        """Remember that a merged field or argument has this enum's type."""
        use = self.enum_uses.setdefault(name, EnumUse())
        if output:
            use.outputs = use.outputs or where
        else:
            use.inputs = use.inputs or where


def fed_directive(directives: Iterable[Applied], name: str) -> Applied | None:
    """The first application of a directive of Apollo's specs."""
    for applied in directives:
        if applied.name == name and (applied.identity or "").startswith(APOLLO):
            return applied
    return None


def is_interface_object(definition: TypeDefinition) -> bool:
    """Whether a subgraph's object stands for an interface."""
    return definition.kind is Kind.OBJECT and (
        fed_directive(definition.directives, "interfaceObject") is not None
    )


def subgraph_words(names: Iterable[str]) -> str:
    """`subgraph "a"`, `subgraphs "a" and "b"`, and cut where it would be long."""
    quoted = [f'"{name}"' for name in names]
    if len(quoted) == 1:
        return f"subgraph {quoted[0]}"
    shown = quoted if len(quoted) <= 8 else [*quoted[:7], f"{len(quoted) - 7} more"]
    return f"subgraphs {', '.join(shown[:-1])} and {shown[-1]}"


def who_says_what(state: State, says: Mapping[int, str]) -> str:
    """`X in subgraph "a" but Y in subgraphs "b" and "c"`, in order of appearance."""
    groups: dict[str, list[str]] = {}
    for index, words in says.items():
        groups.setdefault(words, []).append(state.name(index))
    return " but ".join(f"{words} in {subgraph_words(names)}" for words, names in groups.items())


def present_and_absent(
    state: State, present: Iterable[int], scope: Iterable[int], verb: str
) -> str:
    """`it is VERB in subgraph "a" but not in subgraph "b"`."""
    inside = set(present)
    missing = [index for index in scope if index not in inside]
    words = f"it is {verb} in {subgraph_words(state.names(sorted(inside)))}"
    return f"{words} but not in {subgraph_words(state.names(missing))}" if missing else words


def definitions(state: State, name: str) -> Iterator[tuple[int, TypeDefinition]]:
    """The subgraphs' definitions of a type."""
    yield from state.definers.get(name, {}).items()
