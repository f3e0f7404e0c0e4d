"""Entities that an operation has been given already are not asked for again.

Within one operation a subgraph that has answered a field of an entity would answer it the same a
moment later. So a call whose whole selection is known for a representation, from an earlier call
or from an object of an earlier answer of the same subgraph, leaves that representation out. Only
reads that have ended without errors are drawn on, and only in queries: a mutation changes things.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphql import (
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    get_named_type,
    is_list_type,
    is_non_null_type,
    print_ast,
)

from gateway.federation.plan import Plan, Selected, SelectedField
from gateway.federation.projection.layout import CallInfo, Layout
from gateway.federation.projection.places import PARAMETERS
from gateway.federation.projection.writing import Module, Writer


@dataclass(frozen=True, slots=True)
class Site:
    """Where known entities lie: `number` is the fetch, `function` gathers them by key.

    Without a function they are the entities of the call `index`.
    """

    number: int
    index: int
    function: str | None


@dataclass(frozen=True, slots=True)
class _Object:
    """An object type's place in an answer: keys to go through, with how many lists each."""

    typename: str
    way: tuple[tuple[str, int], ...]
    selections: tuple[Selected, ...]


class Reusing:
    """Finds and writes the sites that calls may draw on."""

    def __init__(self, plan: Plan, layout: Layout, schema: GraphQLSchema, module: Module) -> None:
        self.plan = plan
        self.layout = layout
        self.schema = schema
        self.module = module
        self._written: dict[tuple[object, ...], str] = {}

    def sites(self, info: CallInfo) -> list[Site]:
        """What a call may draw on; earlier fetches first."""
        if self.plan.operation.kind != "query":
            return []
        found: list[Site] = []
        for number in sorted(info.before):
            if self.plan.fetches[number].service != info.service:
                continue
            root = self.schema.query_type
            if root is not None:
                fetch = self.plan.fetches[number]
                found += self._within(info, number, -1, root, fetch.selections)
            for other in self.layout.calls:
                if other.number != number:
                    continue
                if _alike(other, info) and covers(other.call.selections, info.call.selections):
                    found.append(Site(number, other.index, None))
                for one in other.call.selections:
                    kind = None if isinstance(one, SelectedField) else self._object(one.on)
                    if kind is not None:
                        found += self._within(info, number, other.index, kind, one.selections)
        return found

    def _object(self, name: str) -> GraphQLObjectType | None:
        found = self.schema.get_type(name)
        return found if isinstance(found, GraphQLObjectType) else None

    def _within(
        self,
        info: CallInfo,
        number: int,
        index: int,
        root: GraphQLObjectType,
        selections: Sequence[Selected],
    ) -> Iterator[Site]:
        """Sites at objects within an answer."""
        wanted = self._wanted(info)
        if wanted is None:
            return
        typename, names, selected = wanted
        for place in self._objects(root, selections, ()):
            if place.typename != typename or not covers(place.selections, selected):
                continue
            keys = [_key(place.selections, name) for name in names]
            if all(keys):
                text = [key for key in keys if key is not None]
                yield Site(number, index, self._write(info, number, index, place, text))

    def _wanted(self, info: CallInfo) -> tuple[str, list[str], tuple[Selected, ...]] | None:
        """Type, input names and selections of a call about one object type."""
        if len(info.call.representations) != 1 or info.typename is None:
            return None
        inputs = info.call.representations[0].inputs
        if self._object(info.typename) is None or any(one.inputs or one.types for one in inputs):
            return None
        if not inputs:  # The root type has no key.
            return None
        made: tuple[Selected, ...] = ()
        for one in info.call.selections:
            if isinstance(one, SelectedField):
                made += (one,)
            elif one.on == info.typename:
                made += one.selections
            else:
                return None
        return info.typename, [one.name for one in inputs], made

    def _objects(
        self,
        parent: GraphQLObjectType,
        selections: Sequence[Selected],
        way: tuple[tuple[str, int], ...],
    ) -> Iterator[_Object]:
        for one in selections:
            if not isinstance(one, SelectedField) or not one.selections:
                continue
            definition = parent.fields.get(one.name)
            kind = None if definition is None else get_named_type(definition.type)
            if definition is None or not isinstance(kind, GraphQLObjectType):
                continue
            on = (*way, (one.key, _lists(definition.type)))
            yield _Object(kind.name, on, one.selections)
            yield from self._objects(kind, one.selections, on)

    def _write(
        self, info: CallInfo, number: int, index: int, place: _Object, keys: list[str]
    ) -> str:
        known = (number, index, place.way, tuple(keys), info.single)
        found = self._written.get(known)
        if found is not None:
            return found
        function = self.module.function(PARAMETERS)
        self._written[known] = function.name
        writer = Writer(self.module, function)
        if index < 0:
            self._walk(writer, f"A[{number}]", place.way, keys, single=info.single)
        else:
            item = self.module.name("o")
            with writer.block(f"for {item} in E[{index}]:"):
                self._walk(writer, item, place.way, keys, single=info.single)
        return function.name

    def _walk(
        self,
        writer: Writer,
        variable: str,
        way: Sequence[tuple[str, int]],
        keys: list[str],
        *,
        single: bool,
    ) -> None:
        if not way:
            values = ", ".join(f"{variable}[{key!r}]" for key in keys)
            writer.line(f"K[{values if single else f'({values},)'}] = {variable}")
            return
        (key, lists), *rest = way
        name = self.module.name("v")
        writer.line(f"{name} = {variable}[{key!r}]")
        self._into(writer, name, lists, rest, keys, single=single)

    def _into(
        self,
        writer: Writer,
        name: str,
        lists: int,
        rest: Sequence[tuple[str, int]],
        keys: list[str],
        *,
        single: bool,
    ) -> None:
        if writer.deep():
            return  # So deep within lists nothing is looked for.
        with writer.block(f"if {name} is not None:"):
            if not lists:
                self._walk(writer, name, rest, keys, single=single)
                return
            item = self.module.name("o")
            with writer.block(f"for {item} in {name}:"):
                self._into(writer, item, lists - 1, rest, keys, single=single)


def _lists(kind: GraphQLOutputType) -> int:
    count = 0
    while is_non_null_type(kind) or is_list_type(kind):
        count += is_list_type(kind)
        kind = kind.of_type
    return count


def _key(selections: Sequence[Selected], name: str) -> str | None:
    """The response key of a plain field, wherever it is always selected."""
    for one in selections:
        if isinstance(one, SelectedField) and one.name == name and not one.arguments:
            return one.key
    return None


def _alike(one: CallInfo, other: CallInfo) -> bool:
    """Whether equal keys of two calls mean equal representations."""
    shapes = [
        [
            (each.types, each.typename, each.needed, [given.name for given in each.inputs])
            for each in info.call.representations
        ]
        for info in (one, other)
    ]
    simple = not any(
        given.inputs or given.types
        for info in (one, other)
        for each in info.call.representations
        for given in each.inputs
    )
    return simple and shapes[0] == shapes[1]


def covers(known: Sequence[Selected], wanted: Sequence[Selected]) -> bool:
    """Whether everything wanted, under the same response keys, is in what is known."""
    fields = {one.key: one for one in known if isinstance(one, SelectedField)}
    for one in wanted:
        if isinstance(one, SelectedField):
            found = fields.get(one.key)
            if (
                found is None
                or found.name != one.name
                or _arguments(found) != _arguments(one)
                or not covers(found.selections, one.selections)
            ):
                return False
            continue
        below = [
            inner
            for each in known
            if not isinstance(each, SelectedField) and each.on == one.on
            for inner in each.selections
        ]
        if not covers(below, one.selections):
            return False
    return True


def _arguments(one: SelectedField) -> dict[str, str]:
    return {name: print_ast(value) for name, value in one.arguments}
