"""A federation with its subgraphs up, and who judges what a gateway answered over them."""

import json
from collections.abc import Mapping
from typing import Any

from graphql import parse

from tests.federation.harness import documents
from tests.federation.harness.cases import MONOLITH, Case, Federation
from tests.federation.harness.documents import names_in
from tests.federation.harness.monolith import Monolith
from tests.federation.harness.subgraph import Log, Subgraph


class Running:
    """A federation's subgraphs over one fresh copy of its data."""

    def __init__(self, federation: Federation) -> None:
        self.federation, self.log = federation, Log()
        self.world = federation.world()
        self.monolith = Monolith(federation.supergraph, self.world)
        self.subgraphs = {
            name: Subgraph(name, sdl, self.world, self.monolith.possible, self.log)
            for name, sdl in federation.subgraphs.items()
        }
        self._needed = _needed_by_the_graph(federation)

    def complaints(self, case: Case, answer: Mapping[str, Any]) -> list[str]:
        """What is wrong with a gateway's answer to a case, and with what it asked for it."""
        found = [*self.log.wrong, *_about_errors(case, answer)]
        expected = case.data
        if case.refused:
            if self.log.requests:
                found.append("asked subgraphs for an operation that is not valid")
            if answer.get("data") is not None:
                found.append(f"data for an operation that is not valid: {_text(answer['data'])}")
            return found
        if expected is not MONOLITH and answer.get("data") != expected:
            found.append(f"data {_text(answer.get('data'))}, expected {_text(expected)}")
        if case.monolith:
            found += self._beside_the_monolith(case, answer)
        if len(self.log.requests) > case.requests:
            found.append(f"{len(self.log.requests)} requests, expected at most {case.requests}")
        return found + self._about_fields(case)

    def _beside_the_monolith(self, case: Case, answer: Mapping[str, Any]) -> list[str]:
        world = self.federation.world()  # Mutations have changed the other one.
        monolith = Monolith(self.federation.supergraph, world)
        truth = monolith.answer(case.query, case.variables, case.operation).get("data")
        if same(answer.get("data"), truth):
            return []
        return [f"data {_text(answer.get('data'))}, the monolith says {_text(truth)}"]

    def _about_fields(self, case: Case) -> list[str]:
        """Fields asked for that neither the client nor any key or @requires needs."""
        named = _named_by(case) | self._needed
        found = {entry for entry in self.log.fields if entry[2] not in named}
        return [f"{graph} was asked for {parent}.{name}" for graph, parent, name in sorted(found)]


def _about_errors(case: Case, answer: Mapping[str, Any]) -> list[str]:
    errors = answer.get("errors") or []
    if bool(errors) != (case.errors or case.refused or bool(case.paths)):
        return [f"errors {_text(errors)}, expected {'some' if case.errors else 'none'}"]
    if case.paths:
        paths = sorted([error.get("path") for error in errors], key=str)
        if paths != sorted([list(path) for path in case.paths], key=str):
            return [f"error paths {_text(paths)}, expected {_text(case.paths)}"]
    return []


def _named_by(case: Case) -> set[str]:
    """Fields the client asks for, without what its conditions leave out."""
    names: set[str] = set()
    document = parse(case.query)
    for node in document.definitions:
        names |= _selected(node.selection_set, _conditions(document, case))
    return names


def _conditions(document: Any, case: Case) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for node in document.definitions:
        for variable in getattr(node, "variable_definitions", None) or ():
            if variable.default_value is not None:
                values[variable.variable.name.value] = getattr(
                    variable.default_value, "value", None
                )
    return {**values, **case.variables}


def _selected(selections: Any, values: Mapping[str, Any]) -> set[str]:
    names: set[str] = set()
    for node in selections.selections:
        if not all(_holds(directive, values) for directive in node.directives or ()):
            continue
        if node.kind == "field":
            names.add(node.name.value)
        if getattr(node, "selection_set", None):
            names |= _selected(node.selection_set, values)
    return names


def _holds(directive: Any, values: Mapping[str, Any]) -> bool:
    if directive.name.value not in {"skip", "include"}:
        return True
    condition = directive.arguments[0].value
    name = condition.name.value if condition.kind == "variable" else None
    value = values.get(name) if name else condition.value
    return bool(value) == (directive.name.value == "include")


def _needed_by_the_graph(federation: Federation) -> set[str]:
    names: set[str] = set()
    for sdl in federation.subgraphs.values():
        for rule in documents.rules(parse(sdl)).values():
            sets = [fields for fields, _ in rule.keys]
            sets += [field.requires for field in rule.fields.values() if field.requires]
            names.update(name for fields in sets for name in names_in(fields))
    return names


def same(one: Any, other: Any) -> bool:
    """Whether two answers are equal, in the order of their keys too."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def _text(found: Any) -> str:
    return json.dumps(found, ensure_ascii=False, default=str)
