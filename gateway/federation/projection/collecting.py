"""Code that gathers the representations of an entity call: `collect(A, M, E, K, L)`.

It walks the paths of the call, or from the entities of another call on, and fills K: the distinct
representations by their identifying key, in the order in which they are met.
"""

from collections.abc import Sequence

from gateway.federation.plan import Path, Representation
from gateway.federation.projection.layout import (
    Attached,
    CallInfo,
    Candidate,
    Layout,
    Place,
    Source,
    TooInvolved,
    provides,
)
from gateway.federation.projection.merging import incomplete
from gateway.federation.projection.places import PARAMETERS, Blanks, Group, Places, Spot
from gateway.federation.projection.writing import Module, tuple_of


class Collecting(Places):
    """Writes the collector of one call."""

    def __init__(
        self,
        module: Module,
        layout: Layout,
        blanks: Blanks,
        info: CallInfo,
        abstract: frozenset[str],
    ) -> None:
        super().__init__(module, layout, blanks)
        self.info = info
        self.abstract = abstract

    def write(self) -> str:
        """Write it; returns the function's name."""
        begun = self.module.begin()
        starts, left = self.layout.starts(self.info)
        try:
            return self._function(starts, left)
        except TooInvolved:
            self.module.drop(begun)
            return self._function([], list(self.info.call.paths))

    def _function(self, starts: Sequence[tuple[CallInfo, list[Path]]], left: Sequence[Path]) -> str:
        function = self.module.function(PARAMETERS)
        with self.inside(function):
            for other, rests in starts:
                self._from_entities(other, rests)
            if left:
                self._from_root(left)
        return function.name

    def _from_entities(self, other: CallInfo, rests: Sequence[Path]) -> None:
        attached = [Attached(self.info, rest) for rest in rests]
        for one in self.layout.calls:
            if one.number in self.info.before:
                attached += [Attached(one, rest) for rest in self.layout.beyond(other, one)]
        item = self.module.name("o")
        with self.block(f"for {item} in E[{other.index}]:"):
            source = Source(item, other.call.selections, other.number, joined=True)
            self.walk(Place([source], tuple(attached)))

    def _from_root(self, left: Sequence[Path]) -> None:
        within = self.info.before
        attached = [
            Attached(one, path)
            for one in self.layout.calls
            if one.number in within
            for path in one.call.paths
        ]
        attached += [Attached(self.info, path) for path in left]
        roots = self.layout.roots(within)
        for one in roots:
            self.load(one.variable, f"A[{one.owner}]")
        self.walk(Place(roots, tuple(attached)))

    def walk(self, place: Place) -> None:
        """Write the way on from a place, for each runtime type that matters."""
        groups = self.groups(place, None, ())
        spot = self.spot(place, Group(None, None))
        told = self.typenames(spot, self.info.before) if groups[0].one is not None else []
        if not told:
            # Nobody was asked for types where all objects are of those that matter.
            self.visit(spot)
            return
        variable = self.module.name("t")
        self.line(f"{variable} = {told[0].source.variable}[{told[0].key!r}]")
        abstract = self.module.constant(self.abstract)
        for other in told[1:]:
            value = f"{other.source.variable}[{other.key!r}]"
            self.line(f"if {variable} is None or {variable} in {abstract}: {variable} = {value}")
        word = "if"
        for group in groups:
            assert group.types is not None
            group.variable = variable
            with self.block(f"{word} {variable} in {self.module.constant(group.types)}:"):
                self.visit(self.typed(spot, group))
            word = "elif"
        with self.block("else:"):
            self.visit(self.typed(spot, Group("", None, variable)))

    def visit(self, spot: Spot) -> None:
        typename = spot.group.one
        mine = [one for one in spot.place.attached if one.info is self.info and one.holds(typename)]
        if any(not one.steps for one in mine) and self.info.representation(typename) is not None:
            self.add(spot)
        onward: dict[str, int] = {}
        for one in mine:
            if one.steps:
                onward.setdefault(one.steps[0].key, one.steps[0].lists)
        for key, lists in onward.items():
            found = self.who(spot, key, self.info.before)
            if found:
                values = [self.read(spot, [one]) for one in found]
                shared = all(one.source.shared for one in found)
                self.enter(found, values, lists, spot.place.onward(key, typename), shared)

    def enter(
        self,
        found: Sequence[Candidate],
        values: list[str],
        lists: int,
        attached: tuple[Attached, ...],
        shared: bool,
    ) -> None:
        """Write the way into a field's value; what many places share is walked once."""
        if self.deep():
            function, names = self.function_for(values)
            self.line(f"{function.name}({', '.join([PARAMETERS, *values])})")
            with self.inside(function):
                self.enter(found, names, lists, attached, shared)
            return
        if len(values) > 1:
            with self.block(f"if {values[0]} is None:"):
                self.alone(values)
        with self.block(f"if {values[0]} is not None:"):
            self.level(values, found, lists)
            if not lists:
                sources = [
                    Source(value, one.selections, one.source.owner, shared=shared)
                    for value, one in zip(values, found, strict=True)
                ]
                self.walk(Place(sources, attached))
                return
            if not shared:
                self.each(found, values, lists, attached)
                return
            seen = self.load(self.module.name("s"), "set()")
            key = f"({', '.join(f'id({value})' for value in values)},)"
            with self.block(f"if {key} not in {seen}:"):
                self.line(f"{seen}.add({key})")
                self.each(found, values, lists, attached)

    def each(
        self,
        found: Sequence[Candidate],
        values: list[str],
        lists: int,
        attached: tuple[Attached, ...],
    ) -> None:
        head, items = self.loop(values)
        with self.block(head):
            self.enter(found, items, lists - 1, attached, shared=False)

    def add(self, spot: Spot) -> None:
        """Note an object's representation, if nothing needed is missing."""
        earlier = [one for one in spot.unjoined if one.number in self.info.before]
        keys = self.identity(spot, [self.info, *earlier])
        if keys and not self.plain(spot):
            # What identifies its entities identifies its representation: no need to join twice.
            seen = self.load(self.module.name("s"), "set()")
            own = self.own(spot, keys)
            with self.block(f"if {own} not in {seen}:"):
                self.line(f"{seen}.add({own})")
                self.add_one(self.typed(spot, spot.group))
            return
        self.add_one(spot)

    def plain(self, spot: Spot) -> bool:
        """Whether a representation needs no entity of another call."""
        inputs = self.representation(spot, self.info).inputs
        return not any(
            provides(one.call.selections, each.key, spot.group.one)
            for one in spot.unjoined
            if one.number in self.info.before
            for each in inputs
        )

    def whole(self, found: Representation) -> dict[str, str]:
        """Keys made of objects, which are none with a null in them; by name the test for that.

        Where a representation has more than keys, only what is no object is tested.
        """
        if len(found.needed) < len(found.inputs):
            return {}
        return {one.name: self.module.constant(incomplete) for one in found.inputs if one.inputs}

    def add_one(self, spot: Spot) -> None:
        found = self.representation(spot, self.info)
        inputs = self.inputs(spot, self.info)
        missing = found.needed - {name for name, _, _ in inputs}
        if missing:
            raise TooInvolved("a needed input that no input gives")
        typename = self.sent_typename(spot, self.info)
        keys = [key for _, _, key in inputs]
        parts = keys if self.info.typename is not None else [typename, *keys]
        key = keys[0] if self.info.single else tuple_of(parts)
        whole = self.whole(found)
        needed = [
            f"not {whole[name]}({value})" if name in whole else f"{value} is not None"
            for name, value, _ in inputs
            if name in found.needed
        ]
        with self.block(f"if {' and '.join(needed) or 'True'}:"):
            name = self.module.name("k")
            self.line(f"{name} = {key}")
            with self.block(f"if {name} not in K:"):
                values = ", ".join(f"{one!r}: {value}" for one, value, _ in inputs)
                self.line(f"K[{name}] = {{'__typename': {typename}, {values}}}")
