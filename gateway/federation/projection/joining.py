"""Code that builds the client's data from answers, and counts it: `join(A, M, E, K, L)`.

Entities are looked up where they belong while the data is built, so no answer is changed or copied.
The code trusts what `checks` has found in order; it raises `Suspect` where only the joining can
show that something is missing. What hangs from an entity alone is built once per entity,
and counted (in `c`, by items of lists) wherever it stands.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from graphql import (
    GraphQLList,
    GraphQLNonNull,
    GraphQLOutputType,
    GraphQLSchema,
    get_named_type,
    is_abstract_type,
    is_composite_type,
)

from gateway.federation.operation import Field, Operation, Selection
from gateway.federation.projection.checks import Checks
from gateway.federation.projection.layout import (
    Attached,
    Candidate,
    Layout,
    Place,
    Source,
    TooInvolved,
    candidates,
)
from gateway.federation.projection.places import PARAMETERS, Blanks, Group, Places, Spot
from gateway.federation.projection.writing import MAX_ITEMS, Module

_Selections = tuple[Selection, ...]


@dataclass(frozen=True, slots=True)
class _Below:
    """What is known of a field's objects."""

    found: Sequence[Candidate]
    attached: tuple[Attached, ...]
    static: frozenset[str]
    abstract: bool
    selections: _Selections
    shared: bool


class Joining(Places):
    """Writes the code that builds an operation's data."""

    def __init__(
        self,
        module: Module,
        layout: Layout,
        blanks: Blanks,
        *,
        schema: GraphQLSchema,
        checks: Checks,
        abstract: frozenset[str],
    ) -> None:
        super().__init__(module, layout, blanks)
        self.schema = schema
        self.checks = checks
        self.abstract = abstract
        self.notes = 0
        self.objects: dict[str, frozenset[str]] = {}

    def write(self, operation: Operation) -> str:
        """Write it; returns the function's name."""
        function = self.module.function(PARAMETERS)
        with self.inside(function):
            roots = self.layout.roots()
            for one in roots:
                self.load(one.variable, f"A[{one.owner}]")
            attached = tuple(
                Attached(one, path) for one in self.layout.calls for path in one.call.paths
            )
            spot = self.spot(Place(roots, attached), Group(operation.root, None))
            self.load("c", "0")
            self.line(f"return {self.fields(spot, operation.selections)}, c")
        return function.name

    def possible(self, name: str) -> frozenset[str]:
        """Names of the object types that a type stands for."""
        found = self.objects.get(name)
        if found is None:
            kind = self.schema.get_type(name)
            found = self.objects[name] = (
                frozenset(one.name for one in self.schema.get_possible_types(kind))
                if is_abstract_type(kind)
                else frozenset({name})
            )
        return found

    def object(self, target: str, place: Place, below: "_Below") -> None:
        """Write `target = …` for an object."""
        static, selections = below.static, below.selections
        groups = self.groups(place, static, self.conditions(selections))
        if not below.abstract:
            self.built(target, self.spot(place, groups[0]), selections)
            return
        spot = self.spot(place, Group(None, static))
        told = self.typenames(spot)
        if not told:
            if self.wants_type(selections, static):
                raise TooInvolved("types matter where nobody tells them")
            self.built(target, spot, selections)
            return
        variable = self.module.name("t")
        known = self.module.constant(static)
        self.line(f"{variable} = {told[0].source.variable}[{told[0].key!r}]")
        for other in told[1:]:
            value = f"{other.source.variable}[{other.key!r}]"
            self.line(f"if {variable} not in {known}: {variable} = {value}")
        word = "if"
        for group in groups:
            group.variable = variable
            kinds = self.module.constant(group.types)
            with self.block(f"{word} {variable} in {kinds}:"):
                self.built(target, self.typed(spot, group), selections)
            word = "elif"
        if not self.wants_type(selections, static):
            # An interface object's own name: it stands for any of the types.
            names = self.module.constant(self.abstract | {None})
            with self.block(f"elif {variable} in {names}:"):
                self.built(target, self.typed(spot, Group(None, static)), selections)
        with self.block("else:"):
            self.line(f"{target} = None")

    def built(self, target: str, spot: Spot, selections: _Selections) -> None:
        """Write `target = {…}`, once for all objects whose entities are the same.

        That is so if all that is read of the object itself is what identifies its entities.
        """
        keys = self.identity(spot, spot.unjoined)
        if not keys or any(
            candidates(spot.sources, key, spot.group.one)
            for key in self.collect(spot.group, selections)
            if key not in keys
        ):
            self.line(f"{target} = {self.fields(spot, selections)}")
            return
        with self.once(target, self.own(spot, keys)):
            self.line(f"{target} = {self.fields(spot, selections)}")

    @contextmanager
    def once(self, target: str, key: str) -> Iterator[None]:
        """Lines that set `target`, run once for a key in each run; counted every time."""
        notes = self.load(f"n{self.notes}", f"K[{self.notes}]")
        self.notes += 1
        known, count = self.module.name("q"), self.module.name("c")
        self.line(f"{known} = {notes}.get({key})")
        with self.block(f"if {known} is None:"):
            self.line(f"{count} = c")
            yield
            self.line(f"{notes}[{key}] = {target}, c - {count}")
        with self.block("else:"):
            self.line(f"{target}, {count} = {known}")
            self.line(f"c += {count}")
            self.line(f"if c > {MAX_ITEMS}: raise AnswerTooLarge")

    def wants_type(self, selections: _Selections, static: frozenset[str]) -> bool:
        """Whether an object's data depends on which of the types it is."""
        return any(
            one.name == "__typename"
            if isinstance(one, Field)
            else not static <= self.possible(one.on) or self.wants_type(one.selections, static)
            for one in selections
        )

    def conditions(self, selections: _Selections) -> list[frozenset[str]]:
        """The types of a level's fragments."""
        found: list[frozenset[str]] = []
        for one in selections:
            if not isinstance(one, Field):
                found += [self.possible(one.on), *self.conditions(one.selections)]
        return found

    def fields(self, spot: Spot, selections: _Selections) -> str:
        """An expression of an object's data."""
        parts: list[str] = []
        for key, fields in self.collect(spot.group, selections).items():
            one = fields[0]
            if one.name == "__typename":
                literal = spot.group.literal()
                if literal is None:
                    raise TooInvolved("a type that nobody tells")
                parts.append(f"{key!r}: {literal}")
            elif one.name in ("__schema", "__type"):
                parts.append(f"{key!r}: L[{key!r}]")
            else:
                inner = tuple(below for each in fields for below in each.selections)
                parts.append(f"{key!r}: {self.field(spot, one, inner)}")
        return "{" + ", ".join(parts) + "}"

    def collect(self, group: Group, selections: _Selections) -> dict[str, list[Field]]:
        made: dict[str, list[Field]] = {}
        self._collect(group.one, selections, made)
        return made

    def _collect(
        self, typename: str | None, selections: _Selections, made: dict[str, list[Field]]
    ) -> None:
        for one in selections:
            if isinstance(one, Field):
                made.setdefault(one.key, []).append(one)
            elif typename is None or typename in self.possible(one.on):
                self._collect(typename, one.selections, made)

    def field(self, spot: Spot, one: Field, selections: _Selections) -> str:
        """An expression of a field's value."""
        found = self.who(spot, one.key)
        required = isinstance(one.type, GraphQLNonNull)
        if not found:
            if required:
                self.line("raise Suspect")
            return "None"
        for candidate in found:
            self.checks.want(candidate, one.type)
        named = get_named_type(one.type)
        if is_composite_type(named):
            return self.composite(spot, one, selections, found)
        known = ((found[0].source.variable, found[0].key),)
        if len(found) == 1 and known not in spot.read and not (required and found[0].source.joined):
            return f"{found[0].source.variable}[{found[0].key!r}]"
        value = self.read(spot, found)
        if required:
            self.line(f"if {value} is None: raise Suspect")
        return value

    def composite(
        self, spot: Spot, one: Field, selections: _Selections, found: list[Candidate]
    ) -> str:
        attached = spot.place.onward(one.key, spot.group.one)
        static = self.possible(get_named_type(one.type).name)
        values = [self.read(spot, [each]) for each in found]
        target = self.module.name("r")
        abstract = is_abstract_type(get_named_type(one.type))
        shared = all(each.source.shared for each in found)
        if not (shared and _is_list(one.type)):
            below = _Below(found, attached, static, abstract, selections, shared)
            self.value(target, one.type, values, below)
            return target
        key = ", ".join(f"id({value})" for value in values)
        with self.once(target, key if len(values) == 1 else f"({key})"):
            below = _Below(found, attached, static, abstract, selections, shared=False)
            self.value(target, one.type, values, below)
        return target

    def value(self, target: str, kind: GraphQLOutputType, values: list[str], below: _Below) -> None:
        """Write `target = …` for a value of a type that is or holds objects."""
        if self.deep():
            function, names = self.function_for(values)
            count = self.module.name("c")
            given = ", ".join([PARAMETERS, *values])
            self.line(f"{target}, {count} = {function.name}({given})")
            self.line(f"c += {count}")
            with self.inside(function):
                self.load("c", "0")
                self.value(target, kind, names, below)
                self.line(f"return {target}, c")
            return
        required = isinstance(kind, GraphQLNonNull)
        inner = kind.of_type if isinstance(kind, GraphQLNonNull) else kind
        with self.block(f"if {values[0]} is None:"):
            self.alone(values)
            self.line("raise Suspect" if required else f"{target} = None")
        with self.block("else:"):
            self.level(values, below.found, isinstance(inner, GraphQLList))
            if isinstance(inner, GraphQLList):
                self.line(f"{target} = []")
                head, items = self.loop(values)
                item = self.module.name("r")
                with self.block(head):
                    self.value(item, inner.of_type, items, below)
                    self.line(f"{target}.append({item})")
                self.line(f"c += len({target})")
                return
            # The first one is there; others may be blank, as an entity may.
            sources = [
                Source(value, each.selections, each.source.owner, index > 0, below.shared)
                for index, (value, each) in enumerate(zip(values, below.found, strict=True))
            ]
            self.object(target, Place(sources, below.attached), below)
            if required and below.abstract:
                self.line(f"if {target} is None: raise Suspect")


def _is_list(kind: GraphQLOutputType) -> bool:
    inner = kind.of_type if isinstance(kind, GraphQLNonNull) else kind
    return isinstance(inner, GraphQLList)
