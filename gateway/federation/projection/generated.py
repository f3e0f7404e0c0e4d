"""The generated code of one plan, compiled piece by piece."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from graphql import GraphQLSchema, is_interface_type

from gateway.federation.plan import Plan
from gateway.federation.projection.checks import Checks
from gateway.federation.projection.collecting import Collecting
from gateway.federation.projection.joining import Joining
from gateway.federation.projection.layout import CallInfo, Layout, TooInvolved, blank
from gateway.federation.projection.places import Blanks
from gateway.federation.projection.reusing import Reusing, Site
from gateway.federation.projection.writing import Module, Suspect

STUMBLES = (Suspect, KeyError, TypeError, AttributeError, IndexError, ValueError)
"""What generated code raises on data that is not as the schema says."""

LARGE = 4_000
"""Characters that a plan sends, from which on its code is written at once."""

Entities = dict[Any, dict[str, Any]]


class Generated:
    """The functions of one plan, each written and compiled when it is first called.

    The first request so meets code generation in pieces, most of them while subgraphs are at work,
    and what its answers do not need is not generated. A function of a shape that code is not
    generated for raises `Suspect`.
    """

    def __init__(self, plan: Plan, schema: GraphQLSchema, *, reuse: bool = True) -> None:
        self._plan = plan
        self._reuse = reuse
        self._layout = layout = Layout(plan)
        self._module = module = Module()
        self._checks = Checks(module)
        self._abstract = frozenset(
            name for name, kind in schema.type_map.items() if is_interface_type(kind)
        )
        self.calls: Sequence[CallInfo] = layout.calls
        self._blanks = Blanks(module, layout.calls)
        self._joining = Joining(
            module,
            layout,
            self._blanks,
            schema=schema,
            checks=self._checks,
            abstract=self._abstract,
        )
        self._reusing = Reusing(plan, layout, schema, module)
        self._made: dict[tuple[str, int], Callable[..., Any]] = {}
        self._sites: dict[int, list[tuple[Site, Callable[..., Any] | None]]] = {}
        self.blanks = self._blanks.values
        self.nothing: list[Entities] = [_Nothing(one) for one in self.blanks]
        self.blank_roots: list[Mapping[str, Any]] = [blank(one.selections) for one in plan.fetches]

    def whole(self) -> str:
        """Write and compile all that is missing; returns the code.

        Raises:
            TooInvolved: The plan has a shape that code is not generated for.
        """
        self._function("join", 0)
        for fetch in self._plan.fetches:
            if fetch.selections:
                self._function("root", fetch.number)
        for index in range(len(self.calls)):
            self._function("check", index)
            self._function("collect", index)
            self.sites(index)
        if _involved in self._made.values():
            raise TooInvolved
        return self._module.text()

    def text(self) -> str:
        """The code that has been written until now."""
        return self._module.text()

    def _function(self, kind: str, index: int) -> Callable[..., Any]:
        made = self._made.get((kind, index))
        if made is None:
            try:
                made = self._module.compiled(self._write(kind, index))
            except TooInvolved:
                made = _involved
            self._made[kind, index] = made
        return made

    def _write(self, kind: str, index: int) -> str:
        if kind == "collect":
            info = self.calls[index]
            return Collecting(
                self._module, self._layout, self._blanks, info, self._abstract
            ).write()
        join = self._join_written  # It tells the checks what is read.
        if join is None:
            raise TooInvolved
        if kind == "join":
            return join
        if kind == "root":
            return self._checks.write(self._plan.fetches[index].selections)
        return self._checks.write(self.calls[index].call.selections)

    @cached_property
    def _join_written(self) -> str | None:
        try:
            return self._joining.write(self._plan.operation)
        except TooInvolved:
            return None

    def sites(self, index: int) -> list[tuple[Site, Callable[..., Any] | None]]:
        """Where entities of a call may be known already, and how they are gathered there."""
        found = self._sites.get(index) if self._reuse else []
        if found is None:
            try:
                found = [
                    (one, None if one.function is None else self._module.compiled(one.function))
                    for one in self._reusing.sites(self.calls[index])
                ]
            except TooInvolved:
                found = []
            self._sites[index] = found
        return found

    def join(
        self,
        data: Sequence[Mapping[str, Any]],
        entities: Sequence[Entities],
        local: Mapping[str, Any],
    ) -> tuple[dict[str, Any], int]:
        """The client's data, and how many items it has; raises AnswerTooLarge, or a STUMBLES."""
        join = self._function("join", 0)
        notes: list[dict[Any, Any]] = [{} for _ in range(self._joining.notes)]
        made: tuple[dict[str, Any], int] = join(data, entities, None, notes, local)
        return made

    def collect(
        self,
        index: int,
        data: Sequence[Mapping[str, Any]],
        entities: Sequence[Entities],
        lists: Sequence[Sequence[dict[str, Any]]],
    ) -> dict[Any, dict[str, Any]]:
        """Representations of a call by their key; raises one of STUMBLES."""
        made: dict[Any, dict[str, Any]] = {}
        self._function("collect", index)(data, entities, lists, made, None)
        return made

    def known(
        self,
        index: int,
        data: Sequence[Mapping[str, Any]],
        entities: Sequence[Entities],
        lists: Sequence[Sequence[dict[str, Any]]],
        usable: Callable[[int], bool],
    ) -> Entities:
        """Entities a call may draw on, by key; `usable` says so of a fetch."""
        found: Entities = {}
        for site, gather in self.sites(index):
            if not usable(site.number):
                continue
            if gather is None:
                blank = self.blanks[site.index]
                found.update(
                    (key, one) for key, one in entities[site.index].items() if one is not blank
                )
            else:
                gather(data, entities, lists, found, None)
        return found

    def root_holds(self, number: int, data: Mapping[str, Any]) -> bool:
        """Whether a root fetch's data is as the schema says."""
        return _holds(self._function("root", number), (data,))

    def entities_hold(self, index: int, entities: Sequence[Any]) -> bool:
        """Whether entities are as the schema says."""
        return _holds(self._function("check", index), entities)


class _Nothing(dict[Any, dict[str, Any]]):
    """The entities of a call that gave none: every one is blank."""

    def __init__(self, blank: dict[str, Any]) -> None:
        super().__init__()
        self.blank = blank

    def __missing__(self, key: object) -> dict[str, Any]:
        return self.blank


def generate(plan: Plan, schema: GraphQLSchema, *, reuse: bool = True) -> Generated | None:
    """The code of a plan, that of a large plan written at once, as it may be on a thread.

    None if it has a shape that code is not generated for.
    """
    made = Generated(plan, schema, reuse=reuse)
    if sum(len(one.text) for one in plan.fetches) > LARGE:
        try:
            made.whole()
        except TooInvolved:
            return None
    return made


def _involved(*_: Any) -> Any:
    raise Suspect


def _holds(check: Callable[[Any], bool], objects: Sequence[Any]) -> bool:
    try:
        return all(map(check, objects))
    except STUMBLES:
        return False
