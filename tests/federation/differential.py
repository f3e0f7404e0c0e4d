"""Random operations over the federations: our gateway and the monolith must say the same."""

import asyncio
import random
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from graphql import parse, print_ast, validate, visit
from graphql.language import REMOVE, Visitor
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis_graphql import queries

from tests.federation import suites
from tests.federation.generating import Pool, dressed, operation
from tests.federation.harness.cases import Federation
from tests.federation.harness.gateway import Gateway
from tests.federation.harness.running import Running, same

_EMPTY = re.compile(r"\{\s*\}|^(query|fragment)[^{]*$", re.MULTILINE)
Question = tuple[str, dict[str, Any]]


@dataclass
class Difference:
    """An operation that was answered otherwise than by the monolith, made small."""

    federation: str
    query: str
    variables: dict[str, Any]
    complaint: str

    def __str__(self) -> str:
        return f"{self.federation}: {self.query}\n  {self.variables}\n  {self.complaint}"


@dataclass
class Figures:
    """What a campaign did."""

    queries: int = 0
    requests: int = 0
    differences: list[Difference] = field(default_factory=list)


class Comparison:
    """One federation, its gateway and its monolith, for any number of operations that read."""

    def __init__(self, federation: Federation) -> None:
        self.running = Running(federation)
        self.gateway = Gateway(self.running)
        self.schema = self.running.monolith.schema
        self.pool = Pool.of(self.running.world)

    async def complaint(self, query: str, variables: dict[str, Any]) -> str | None:
        """What differs; None if nothing does."""
        log = self.running.log
        log.requests.clear()
        log.wrong.clear()
        try:
            answer = await asyncio.wait_for(self.gateway.answer(query, variables), 20)
        except Exception as error:
            return f"raised {type(error).__name__}: {error}"
        truth = self.running.monolith.answer(query, variables, valid=True)
        if log.wrong:
            return f"called wrongly: {log.wrong[0]}"
        if not same(answer.get("data"), truth.get("data")):
            return f"answered {answer}, the monolith {truth}"
        if bool(answer.get("errors")) != bool(truth.get("errors")):
            return f"errors {answer.get('errors')}, the monolith's {truth.get('errors')}"
        return None

    async def smallest(self, query: str, variables: dict[str, Any]) -> Difference:
        """A difference with everything left out that it does not need."""
        complaint = await self.complaint(query, variables)
        smaller = True
        while smaller:
            smaller = False
            for candidate in _smaller(query):
                if validate(self.schema, parse(candidate)):
                    continue
                found = await self.complaint(candidate, variables)
                if found is not None:
                    query, complaint, smaller = candidate, found, True
                    break
        return Difference(self.running.federation.name, query, variables, complaint or "unstable")


def questions(comparison: Comparison, count: int, start: int) -> Iterator[Question]:
    """`count` operations: every fourth from hypothesis-graphql, the others wilder."""
    theirs = _generated(comparison, count // 4, start)
    for document in theirs:
        rng = random.Random(f"{start}:{document}")
        yield dressed(comparison.schema, comparison.pool, rng, parse(document))
    for number in range(count - len(theirs)):
        rng = random.Random(start * 1_000_003 + number)
        made = operation(comparison.schema, comparison.pool, rng)
        if made is not None:
            yield made


def _generated(comparison: Comparison, count: int, start: int) -> list[str]:
    found: list[str] = []

    @seed(start)
    @settings(
        max_examples=max(count, 1), database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), verbosity=Verbosity.quiet,
    )  # fmt: skip
    @given(queries(comparison.schema, allow_null=False))
    def collect(document: str) -> None:
        found.append(document)

    if count:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            collect()
    return found[:count]


def federations() -> list[Federation]:
    """Those fit for random operations."""
    return [one for one in suites.load().values() if one.random]


async def campaign(chosen: list[Federation], count: int, start: int, most: int = 5) -> Figures:
    """`count` operations over each federation; at most `most` differences of each are told."""
    figures = Figures()
    for federation in chosen:
        comparison = Comparison(federation)
        found: dict[str, Difference] = {}
        for query, variables in questions(comparison, count, start):
            figures.queries += 1
            if await comparison.complaint(query, variables) is not None and len(found) < most:
                one = await comparison.smallest(query, variables)
                found.setdefault(one.query, one)
            figures.requests += len(comparison.running.log.requests)
        figures.differences += found.values()
    return figures


def _smaller(query: str) -> Iterator[str]:
    """The same document without one selection, directive or alias."""
    document = parse(query)
    places = sum(1 for _ in _removable(document))
    for place in range(places):
        made = _without(document, place)
        if made is not None:
            yield made


def _removable(document: Any) -> Iterator[Any]:
    found: list[Any] = []

    class Count(Visitor):
        def enter(self, node: Any, *_: Any) -> None:
            if node.kind in {"field", "inline_fragment", "fragment_spread", "directive"}:
                found.append(node)

    visit(document, Count())
    yield from found


def _without(document: Any, place: int) -> str | None:
    victim = list(_removable(document))[place]

    class Drop(Visitor):
        def enter(self, node: Any, *_: Any) -> Any:
            return REMOVE if node is victim else None

    text = print_ast(visit(document, Drop()))
    if _EMPTY.search(text):
        return None  # The parent goes with another place.
    return _without_unused(text)


def _without_unused(text: str) -> str:
    """A document without fragments and variables that nobody uses any more."""
    document = parse(text)
    for _ in range(5):
        body = print_ast(document)
        kept = []
        for node in document.definitions:
            name = node.name.value if node.name else ""
            if node.kind == "fragment_definition" and f"...{name}" not in body.replace(
                "... ", "..."
            ):
                continue
            kept.append(node)
        document = parse("\n".join(print_ast(node) for node in kept))
    head, _, rest = print_ast(document).partition("{")
    for node in document.definitions:
        for variable in getattr(node, "variable_definitions", None) or ():
            name = f"${variable.variable.name.value}"
            if name not in rest:
                head = head.replace(print_ast(variable), "").replace("(, ", "(")
                head = head.replace(", , ", ", ").replace(", )", ")").replace("()", "")
    return head + "{" + rest
