"""The generated code of one plan, compiled."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphql import GraphQLSchema, is_interface_type

from gateway.federation.plan import Plan
from gateway.federation.projection.checks import Checks
from gateway.federation.projection.collecting import Collecting
from gateway.federation.projection.joining import Joining
from gateway.federation.projection.layout import CallInfo, Layout, TooInvolved, blank
from gateway.federation.projection.places import Blanks
from gateway.federation.projection.reusing import Reusing
from gateway.federation.projection.writing import Module, Suspect

STUMBLES = (Suspect, KeyError, TypeError, AttributeError, IndexError, ValueError)
"""What generated code raises on data that is not as the schema says."""

Entities = dict[Any, dict[str, Any]]


class Generated:
    """The functions of one plan; `text` is their code.

    Raises:
        TooInvolved: The plan has a shape that code is not generated for.
    """

    def __init__(self, plan: Plan, schema: GraphQLSchema) -> None:
        layout = Layout(plan)
        module = Module()
        self.calls: Sequence[CallInfo] = layout.calls
        blanks = Blanks(module, layout.calls)
        checks = Checks(module)
        abstract = frozenset(
            name for name, kind in schema.type_map.items() if is_interface_type(kind)
        )
        joining = Joining(module, layout, blanks, schema=schema, checks=checks, abstract=abstract)
        names = {
            "join": joining.write(plan.operation),
            "collect": [
                Collecting(module, layout, blanks, one, abstract).write() for one in layout.calls
            ],
            "check": [checks.write(one.call.selections) for one in layout.calls],
            "root": [checks.write(one.selections) for one in plan.fetches],
        }
        reusing = Reusing(plan, layout, schema, module)
        sites = [reusing.sites(one) for one in layout.calls]
        self.text = module.text()
        code = module.compile()
        self._join = code[str(names["join"])]
        self._notes = joining.notes
        self._collect = [code[name] for name in names["collect"]]
        self._checks = [code[name] for name in names["check"]]
        self._roots = [code[name] for name in names["root"]]
        self.sites = [
            [(one, None if one.function is None else code[one.function]) for one in found]
            for found in sites
        ]
        self.blanks = blanks.values
        self.nothing: list[Entities] = [_Nothing(one) for one in blanks.values]
        self.blank_roots: list[Mapping[str, Any]] = [blank(one.selections) for one in plan.fetches]

    def join(
        self,
        data: Sequence[Mapping[str, Any]],
        entities: Sequence[Entities],
        local: Mapping[str, Any],
    ) -> tuple[dict[str, Any], int]:
        """The client's data, and how many items it has; raises AnswerTooLarge, or a STUMBLES."""
        notes: list[dict[Any, Any]] = [{} for _ in range(self._notes)]
        made: tuple[dict[str, Any], int] = self._join(data, entities, None, notes, local)
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
        self._collect[index](data, entities, lists, made, None)
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
        for site, gather in self.sites[index]:
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
        return _holds(self._roots[number], (data,))

    def entities_hold(self, index: int, entities: Sequence[Any]) -> bool:
        """Whether entities are as the schema says."""
        return _holds(self._checks[index], entities)


class _Nothing(dict[Any, dict[str, Any]]):
    """The entities of a call that gave none: every one is blank."""

    def __init__(self, blank: dict[str, Any]) -> None:
        super().__init__()
        self.blank = blank

    def __missing__(self, key: object) -> dict[str, Any]:
        return self.blank


def generate(plan: Plan, schema: GraphQLSchema) -> Generated | None:
    """The code of a plan; None if it has a shape that code is not generated for."""
    try:
        return Generated(plan, schema)
    except TooInvolved:
        return None


def _holds(check: Callable[[Any], bool], objects: Sequence[Any]) -> bool:
    try:
        return all(map(check, objects))
    except STUMBLES:
        return False
