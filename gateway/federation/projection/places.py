"""What collecting and joining have in common: types told apart, entities looked up."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.federation.plan import Input, Representation, SelectedField
from gateway.federation.projection.layout import (
    CallInfo,
    Candidate,
    Layout,
    Place,
    Source,
    TooInvolved,
    blank,
    candidates,
    fields_of,
    provides,
)
from gateway.federation.projection.merging import canonical
from gateway.federation.projection.writing import Function, Module, Suspect, Writer, tuple_of

PARAMETERS = "A, M, E, K, L"
"""Of every function: data by fetch, entities by key and in a list by call, notes, local fields."""

Filters = Iterable[frozenset[str]]


@dataclass(slots=True)
class Group:
    """Runtime types that are all treated alike. `one` stands for them."""

    one: str | None
    types: frozenset[str] | None
    variable: str | None = None

    def literal(self) -> str | None:
        """An expression of the runtime type's name."""
        if self.variable is not None:
            return self.variable
        alone = self.types is None or len(self.types) == 1
        return repr(self.one) if self.one is not None and alone else None


@dataclass(slots=True)
class Spot:
    """A place while code for one group of types is written there; calls are joined on demand."""

    place: Place
    group: Group
    sources: list[Source]
    unjoined: list[CallInfo] = field(default_factory=list)
    keys: dict[int, str] = field(default_factory=dict)
    read: dict[tuple[tuple[str, str], ...], str] = field(default_factory=dict)


class Places(Writer):
    """Writes code that moves over places."""

    def __init__(self, module: Module, layout: Layout, blanks: "Blanks") -> None:
        super().__init__(module, Function("", ""))
        self.layout = layout
        self.blanks = blanks

    def typenames(self, spot: Spot, within: frozenset[int] | None = None) -> list[Candidate]:
        """Who tells the runtime type: objects that do so whatever it is, then entities."""
        for info in list(spot.unjoined):
            if (
                (within is None or info.number in within)
                and provides(info.call.selections, "__typename", None)
                and all(one.types is None for one in info.call.representations)
            ):
                self.join(spot, info)
        return [
            Candidate(source, one.key, (), [one])
            for source in sorted(spot.sources, key=lambda one: one.owner)
            for one in (fields_of(source.selections, None) if source.joined else source.selections)
            if isinstance(one, SelectedField) and one.into == "__typename"
        ]

    def typed(self, spot: Spot, group: Group) -> Spot:
        """A spot for one group of types, with what is known already."""
        arrived = spot.place.arrived(group.one)
        unjoined = [one for one in spot.unjoined if one in arrived]
        return Spot(
            spot.place, group, list(spot.sources), unjoined, dict(spot.keys), dict(spot.read)
        )

    def spot(self, place: Place, group: Group) -> Spot:
        return Spot(place, group, list(place.sources), place.arrived(group.one))

    def who(self, spot: Spot, key: str, within: frozenset[int] | None = None) -> list[Candidate]:
        """Who provides a key, joining calls that do; `within` limits it to some fetches."""
        typename = spot.group.one
        for info in list(spot.unjoined):
            if (within is None or info.number in within) and provides(
                info.call.selections, key, typename
            ):
                self.join(spot, info)
        found = candidates(spot.sources, key, typename)
        return found if within is None else [one for one in found if one.source.owner in within]

    def join(self, spot: Spot, info: CallInfo) -> Source:
        """Look an object's entity up."""
        spot.unjoined.remove(info)
        key = self.key(spot, info)
        entities = self.load(f"m{info.index}", f"M[{info.index}]")
        empty = self.blanks.name(info)
        name = self.module.name("e")
        if info.single:
            self.line(f"{name} = {entities}[{key}]")
        else:
            self.line(f"{name} = {entities}.get({key}, {empty})")
        source = Source(name, info.call.selections, info.number, joined=True, shared=True)
        spot.sources.append(source)
        return source

    def key(self, spot: Spot, info: CallInfo) -> str:
        """An expression that identifies an object's representation."""
        known = spot.keys.get(info.index)
        if known is None:
            parts = [key for _, _, key in self.inputs(spot, info)]
            if info.single != (len(parts) == 1 and info.single):
                raise TooInvolved("a key that is not there for every type")
            if not info.single:
                typename = [] if info.typename is not None else [self.sent_typename(spot, info)]
                parts = [tuple_of([*typename, *parts])]
            known = spot.keys[info.index] = parts[0]
        return known

    def sent_typename(self, spot: Spot, info: CallInfo) -> str:
        """An expression of the `__typename` of an object's representation."""
        found = self.representation(spot, info)
        name = repr(found.typename) if found.typename is not None else spot.group.literal()
        if name is None:
            told = self.typenames(spot, info.before)
            if len(told) != 1:
                raise TooInvolved("a representation whose type nobody tells, or several do")
            name = self.read(spot, told)
        return name

    def representation(self, spot: Spot, info: CallInfo) -> Representation:
        found = info.representation(spot.group.one)
        assert found is not None, "only targets are looked up"
        return found

    def inputs(self, spot: Spot, info: CallInfo) -> list[tuple[str, str, str]]:
        """Name, value and identifying key of each input of an object's representation."""
        made: dict[str, tuple[str, str, str]] = {}
        typename = spot.group.one
        for one in self.representation(spot, info).inputs:
            if one.types is not None and typename is not None and typename not in one.types:
                continue
            if one.name in made:
                raise TooInvolved("an input from two places")
            made[one.name] = (one.name, *self.input(spot, info, one))
        return list(made.values())

    def input(self, spot: Spot, info: CallInfo, one: Input) -> tuple[str, str]:
        found = self.who(spot, one.key, info.before)
        if not found:
            raise TooInvolved("an input that nobody provides")
        if not one.inputs:
            value = self.read(spot, found)
            return value, value
        beyond = spot.place.onward(one.key, spot.group.one)
        if len(found) > 1 or any(each.info.number in info.before for each in beyond):
            raise TooInvolved("an input made of objects of several answers")
        value = self.read(None, found)
        nest, spec = self.module.constant(nested), self.module.held(_spec(one.inputs, found[0]))
        self.line(f"{value} = {nest}({value}, {spec})")
        return value, f"{self.module.constant(canonical)}({value})"

    def read(self, spot: Spot | None, found: Sequence[Candidate]) -> str:
        """A variable with the first value that is not null; read once at a spot."""
        known = tuple((one.source.variable, one.key) for one in found)
        if spot is not None and known in spot.read:
            return spot.read[known]
        name = self.module.name("k")
        self.line(f"{name} = {found[0].source.variable}[{found[0].key!r}]")
        for other in found[1:]:
            self.line(f"if {name} is None: {name} = {other.source.variable}[{other.key!r}]")
        if spot is not None:
            spot.read[known] = name
        return name

    def identity(self, spot: Spot, calls: Sequence[CallInfo]) -> list[str]:
        """Keys of an object's own fields that all inputs of calls follow from, or none."""
        typename = spot.group.one
        own: set[str] = set()
        for info in calls:
            if info.typename is None:
                return []
            for one in self.representation(spot, info).inputs:
                if one.types is not None or one.inputs:
                    return []
                if candidates(spot.place.sources, one.key, typename):
                    own.add(one.key)
        return sorted(own)

    def own(self, spot: Spot, keys: Sequence[str]) -> str:
        """An expression of an object's own fields together."""
        values = [
            self.read(spot, candidates(spot.place.sources, key, spot.group.one)) for key in keys
        ]
        return values[0] if len(values) == 1 else f"({', '.join(values)})"

    def function_for(self, values: Sequence[str]) -> tuple[Function, list[str]]:
        """A function of its own for what follows, and the names of `values` in it."""
        names = [self.module.name("v") for _ in values]
        return self.module.function(", ".join([PARAMETERS, *names])), names

    def level(self, values: Sequence[str], found: Sequence[Candidate], lists: int) -> list[str]:
        """Give what other answers lack at a place the shape that the first one has."""
        first, *others = values
        for other, candidate in zip(others, found[1:], strict=True):
            if lists:
                self.line(f"if {other} is None: {other} = [None] * len({first})")
                self.line(f"elif len({other}) != len({first}): raise Suspect")
            else:
                empty = self.module.held(blank(candidate.selections))
                self.line(f"if {other} is None: {other} = {empty}")
        return list(values)

    def loop(self, values: Sequence[str]) -> tuple[str, list[str]]:
        """The head of a loop over lists of one length, and the names of its items."""
        items = [self.module.name("o") for _ in values]
        if len(values) == 1:
            return f"for {items[0]} in {values[0]}:", items
        return f"for {', '.join(items)} in zip({', '.join(values)}):", items

    def alone(self, values: Sequence[str]) -> None:
        """Where the first answer has null, no other may have more."""
        if len(values) > 1:
            more = " or ".join(f"{one} is not None" for one in values[1:])
            self.line(f"if {more}: raise Suspect")

    def groups(self, place: Place, static: frozenset[str] | None, more: Filters) -> list[Group]:
        """Runtime types told apart as far as anything here depends on them."""
        if static is not None and len(static) == 1:
            return [Group(next(iter(static)), static)]
        filters = list(dict.fromkeys([*place.filters(), *more]))
        if not filters:
            return [Group(None, static)]
        universe = static if static is not None else frozenset().union(*filters)
        told: dict[tuple[bool, ...], list[str]] = {}
        for name in sorted(universe):
            told.setdefault(tuple(name in one for one in filters), []).append(name)
        return [Group(names[0], frozenset(names)) for names in told.values()]


@dataclass(frozen=True, slots=True)
class Nested:
    """How an input is made of an object: where its value is, for which types, of what."""

    name: str
    keys: tuple[str, ...]
    types: frozenset[str] | None
    typename: str
    inputs: "tuple[Nested, ...]"


def _spec(inputs: Sequence[Input], found: Candidate) -> tuple[Nested, ...]:
    fields = list(fields_of(found.selections, None))
    typename = next((one.key for one in fields if one.into == "__typename"), "__typename")
    made = []
    for one in inputs:
        mine = [each for each in fields if each.into == one.key]
        inner = Candidate(
            found.source, one.key, tuple(below for each in mine for below in each.selections)
        )
        keys = tuple(dict.fromkeys(each.key for each in mine))
        made.append(Nested(one.name, keys, one.types, typename, _spec(one.inputs, inner)))
    return tuple(made)


def nested(value: Any, inputs: tuple[Nested, ...]) -> Any:
    """An input made of an object, or of a list of objects; null stays null."""
    if value is None:
        return None
    if isinstance(value, list):
        return [nested(one, inputs) for one in value]
    if not isinstance(value, dict):
        raise Suspect
    made: dict[str, Any] = {}
    for one in inputs:
        kind = value.get(one.typename)
        if one.types is not None and kind is not None and kind not in one.types:
            continue
        found = next((value[key] for key in one.keys if value.get(key) is not None), None)
        if found is not None and one.inputs:
            found = nested(found, one.inputs)
        if found is not None or one.name not in made:
            made[one.name] = found
    return made


class Blanks:
    """What stands for an entity that is not there, by call."""

    def __init__(self, module: Module, calls: Sequence[CallInfo]) -> None:
        self._module = module
        self.values: list[dict[str, Any]] = [blank(one.call.selections) for one in calls]
        self._names: dict[int, str] = {}

    def name(self, info: CallInfo) -> str:
        found = self._names.get(info.index)
        if found is None:
            found = self._names[info.index] = self._module.held(self.values[info.index])
        return found
