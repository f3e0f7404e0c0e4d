"""Mutated SDL and operations: only coded errors may come of them, in bounded time and memory.

`python -m tests.federation.fuzz --minutes 10 --seed 1` goes on for so long; every input can be
made again from its target's name, the seed and its number.
"""

import argparse
import asyncio
import random
import re
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType

import orjson
from graphql import DocumentNode, GraphQLSchema, OperationType, parse, print_ast, validate
from rich.console import Console

from gateway.federation.composition import CompositionFailed, compose
from gateway.federation.engine import Engine
from gateway.federation.errors import InvalidSupergraph, NoPlan, OperationTooLarge
from gateway.federation.machinery import Planned
from gateway.federation.normalise import normalise
from gateway.federation.planner import Planner
from gateway.federation.printing import print_plan
from gateway.federation.requests import Request
from gateway.federation.services import Answer, ServiceFailure, SubgraphRequest
from gateway.federation.supergraph import Supergraph
from tests.federation import suites
from tests.federation.generating import Pool, operation
from tests.federation.harness.cases import Federation
from tests.federation.harness.monolith import api_schema

CONSOLE = Console(soft_wrap=True, markup=False, highlight=False)

SECONDS = 5.0
"""The CPU time one input may take, on a slow machine."""

MEGABYTES = 400
"""What the process may grow by."""

_TOKENS = re.compile(r'"""[\s\S]*?"""|"[^"\n]*"|[\w$@]+|\.\.\.|\s+|.', re.UNICODE)
_SPICE = (
    "@key(fields: \"id\")", "@external", "@requires(fields: \"id\")", "@shareable", "@inaccessible",
    "@provides(fields: \"id { id\")", "@override(from: \"old\")", "@interfaceObject", "@extends",
    "@tag(name: \"x\")", "@key(fields: \"\")", "@key(fields: \"... on Nobody { id }\")",
    "@join__type(graph: NOBODY)", "@join__field(graph: A, requires: \"a { b(c: 1) }\")",
    "type", "interface", "union", "enum", "input", "scalar", "extend", "schema", "directive",
    "implements", "on", "fragment X on Query { ...X }", "...X", "{", "}", "(", ")", "[", "]", "!",
    "$", "&", "|", "=", ":", "\\", "\"", "\"\"\"", "\u0000", "\ud7ff", "ü", "9" * 40, "-1",
    "null", "true", "__typename", "_entities", "_service", "{a" * 60, "[" * 200, "@skip(if: $x)",
)  # fmt: skip


@dataclass
class Findings:
    """What became of inputs: how many of each end, and what must not have happened."""

    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0


def mutated(text: str, others: list[str], rng: random.Random) -> str:
    """A text with one to six changes, token by token."""
    tokens = _TOKENS.findall(text)
    for _ in range(rng.randint(1, 6)):
        if tokens:
            rng.choice(_CHANGES)(tokens, rng.randrange(len(tokens)), others, rng)
    return "".join(tokens)


def _drop(tokens: list[str], place: int, others: list[str], rng: random.Random) -> None:
    del tokens[place : place + rng.choice((1, 1, 2, 8))]


def _repeat(tokens: list[str], place: int, others: list[str], rng: random.Random) -> None:
    tokens[place:place] = tokens[place : place + rng.choice((1, 5, 30))]


def _copy(tokens: list[str], place: int, others: list[str], rng: random.Random) -> None:
    tokens[place] = rng.choice(tokens)


def _swap(tokens: list[str], place: int, others: list[str], rng: random.Random) -> None:
    other = rng.randrange(len(tokens))
    tokens[place], tokens[other] = tokens[other], tokens[place]


def _spice(tokens: list[str], place: int, others: list[str], rng: random.Random) -> None:
    tokens.insert(place, f" {rng.choice(_SPICE)} ")


def _splice(tokens: list[str], place: int, others: list[str], rng: random.Random) -> None:
    tokens[place:place] = _TOKENS.findall(_piece(rng.choice(others), rng))


def _rename(tokens: list[str], place: int, others: list[str], rng: random.Random) -> None:
    names = [index for index, token in enumerate(tokens) if token.isidentifier()]
    if names:
        tokens[rng.choice(names)] = tokens[rng.choice(names)]


_CHANGES = (_drop, _repeat, _copy, _swap, _spice, _splice, _rename, _rename)


def bent(text: str, rng: random.Random) -> str:
    """A text with one to four changes that mostly leave it readable: lines, names, directives."""
    lines = print_ast(parse(text)).splitlines()
    names = sorted(set(re.findall(r"\b[A-Za-z]\w*", text)))
    applied = sorted(set(re.findall(r"@\w+(?:\([^()]*\))?", text)))
    for _ in range(rng.randint(1, 4)):
        inner = [n for n, line in enumerate(lines) if line.startswith(" ") and "{" not in line]
        if not inner:
            break
        place, kind = rng.choice(inner), rng.randrange(6)
        if kind == 0:
            del lines[place]
        elif kind == 1:
            lines.insert(rng.choice(inner), lines[place])
        elif kind == 2:
            lines[place] = re.sub(r"@\w+(\([^()]*\))?", "", lines[place])
        elif kind == 3:
            lines[place] += f" {rng.choice(applied or list(_SPICE[:12]))}"
        else:
            place = place if kind == 4 else rng.randrange(len(lines))
            found = re.findall(r"\b[A-Za-z]\w*", lines[place])
            if found:
                old, new = rng.choice(found), rng.choice(names)
                lines[place] = re.sub(rf"\b{old}\b", new, lines[place], count=1)
    return "\n".join(lines)


def changed(text: str, others: list[str], rng: random.Random) -> str:
    """A text mutated or, more often, bent."""
    return mutated(text, others, rng) if rng.random() < 0.3 else bent(text, rng)


def _piece(text: str, rng: random.Random) -> str:
    start = rng.randrange(len(text))
    return text[start : start + rng.randint(1, 200)]


class Blank:
    """A service with a random, mostly wrong answer."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    async def fetch(self, request: SubgraphRequest) -> Answer:
        """Anything."""
        orjson.loads(request.body)
        chance = self._rng.random()
        if chance < 0.2:
            raise ServiceFailure("SUBGRAPH_UNREACHABLE", "nobody is there")
        if chance < 0.4:
            return Answer.of({"data": None, "errors": [{"message": "no", "path": ["x", 1, None]}]})
        return Answer.of({"data": self._object(4), "errors": self._rng.choice([[], [{}], ["x"]])})

    def _object(self, depth: int) -> dict[str, object]:
        keys = ["id", "name", "__typename", "_entities", "a", "offers", "tour", "items"]
        return {key: self._value(depth) for key in keys if self._rng.random() < 0.7}

    def _value(self, depth: int) -> object:
        kind = self._rng.randrange(6 if depth else 4)
        if kind == 4:
            return self._object(depth - 1)
        if kind == 5:
            return [self._value(depth - 1) for _ in range(self._rng.randint(0, 3))]
        return (None, "text", -7, True)[kind]


class Fuzz:
    """The inputs of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.federations = list(suites.load().values())
        self.sdls = [sdl for one in self.federations for sdl in one.subgraphs.values()]
        self.supergraphs = [one.supergraph for one in self.federations]
        self.queries = [case.query for one in self.federations for case in one.cases]
        self.schemas: dict[str, GraphQLSchema] = {}
        self.targets: dict[str, Callable[[random.Random], str]] = {
            "compose": self.compose,
            "supergraph": self.supergraph,
            "query": self.query,
        }

    def chance(self, target: str, number: int) -> random.Random:
        """What decides about one input."""
        return random.Random(f"{target}:{self.seed}:{number}")

    def one(self, target: str, number: int, findings: Findings) -> None:
        """One input: its end is counted, what must not happen is noted."""
        rng = self.chance(target, number)
        before = time.process_time()
        try:
            with Alarm():
                end = self.targets[target](rng)
        except Exception as error:
            end = "raised"
            findings.wrong.append(f"{target} {self.seed}:{number}: {type(error).__name__}: {error}")
        spent = time.process_time() - before
        if spent > SECONDS:
            findings.wrong.append(f"{target} {self.seed}:{number}: {spent:.1f} s")
        findings.slowest = max(findings.slowest, spent)
        findings.ends[f"{target} {end}"] += 1

    def compose(self, rng: random.Random) -> str:
        """Subgraphs of a federation, some of them mutated."""
        one = rng.choice(self.federations)
        mutants = set(rng.sample(sorted(one.subgraphs), rng.randint(1, len(one.subgraphs))))
        given = [
            (name, f"http://{name}", changed(sdl, self.sdls, rng) if name in mutants else sdl)
            for name, sdl in one.subgraphs.items()
        ]
        try:
            composed = compose(given)
        except CompositionFailed as failed:
            assert failed.errors
            assert all(re.fullmatch(r"[A-Z_]+", error.code) for error in failed.errors)
            return "refused"
        self.planned(composed.sdl, one, rng)
        return "composed"

    def supergraph(self, rng: random.Random) -> str:
        """A supergraph's text, mutated; what still reads is planned on."""
        one = rng.choice(self.federations)
        text = changed(one.supergraph, self.supergraphs, rng)
        try:
            Supergraph.parse(text)
        except InvalidSupergraph:
            return "refused"
        self.planned(text, one, rng)
        return "read"

    def planned(self, text: str, one: Federation, rng: random.Random) -> None:
        """Plan operations of a federation on a changed supergraph of it."""
        supergraph = Supergraph.parse(text)
        planner, schema = Planner(supergraph), supergraph.api_schema
        for case in rng.sample(one.cases, min(3, len(one.cases))):
            document = parse(case.query)
            if document.definitions[0].operation is not OperationType.QUERY:
                continue
            try:
                if not _valid(schema, document):
                    continue
                operation = normalise(schema, document, case.operation, case.variables)
                print_plan(planner.plan(operation))
            except (NoPlan, OperationTooLarge):
                continue

    def query(self, rng: random.Random) -> str:
        """A mutated operation over subgraphs that answer anything."""
        one = rng.choice(self.federations)
        text = self.question(one, rng)
        supergraph = Supergraph.parse(one.supergraph)
        engine = Engine(Planned(supergraph, {name: Blank(rng) for name in one.subgraphs}))
        values = {
            name: rng.choice((None, 1, "x", [], {}, True)) for name in ("a", "v0", "c0", "id")
        }
        result = asyncio.run(engine.execute(Request(text, values)))
        answer = orjson.loads(result.body())
        if "data" not in answer:
            assert answer["errors"], text
            assert all("code" in error["extensions"] for error in answer["errors"]), answer
            return f"refused at {result.stage}"
        return "answered"

    def question(self, one: Federation, rng: random.Random) -> str:
        """An operation of a federation, often mutated."""
        if rng.random() < 0.3:
            schema = self.schemas.setdefault(one.name, api_schema(one.supergraph))
            made = operation(schema, Pool(), rng)
            text = made[0] if made else "{ __typename }"
        else:
            text = rng.choice([case.query for case in one.cases])
        return text if rng.random() < 0.2 else changed(text, self.queries, rng)


def _valid(schema: GraphQLSchema, document: DocumentNode) -> bool:

    return not validate(schema, document)


class TooSlow(BaseException):
    """An input took so long that it was given up."""


class Alarm:
    """Gives up what takes ten times as long as it may."""

    def __enter__(self) -> None:
        def ring(number: int, frame: FrameType | None) -> None:
            raise TooSlow

        self._before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, SECONDS * 10)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)


def grown(before: int) -> int:
    """Megabytes the process has grown by."""
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024


def run(fuzz: Fuzz, numbers: Iterator[int], until: float | None = None) -> Findings:
    """Inputs of all targets in turn, until the numbers or the time (monotonic) end."""
    findings = Findings()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in numbers:
        for target in fuzz.targets:
            fuzz.one(target, number, findings)
        if until is not None and time.monotonic() > until:
            break
    if grown(before) > MEGABYTES:
        findings.wrong.append(f"grew by {grown(before)} MB")
    return findings


def main() -> int:
    """Fuzz for some minutes; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.federation.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="TARGET:NUMBER, one input again")
    asked = parser.parse_args()
    fuzz = Fuzz(asked.seed)
    if asked.only:
        target, number = asked.only.split(":")
        CONSOLE.print(fuzz.targets[target](fuzz.chance(target, int(number))))
        return 0
    until = time.monotonic() + asked.minutes * 60
    findings = run(fuzz, iter(range(10**9)), until)
    for end, count in sorted(findings.ends.items()):
        CONSOLE.print(f"{count:8} {end}")
    CONSOLE.print(f"slowest {findings.slowest:.2f} s CPU; {len(findings.wrong)} wrong")
    for line in findings.wrong[:40]:
        CONSOLE.print("✗", line[:400])
    return int(bool(findings.wrong))


if __name__ == "__main__":
    sys.exit(main())
