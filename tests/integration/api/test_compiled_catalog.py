"""Compiled catalog queries answer what graphql-core's executor answers, to the letter."""

import json
import random

import pytest
from graphql import (
    GraphQLObjectType,
    NoUnusedFragmentsRule,
    NoUnusedVariablesRule,
    get_named_type,
    parse,
    specified_rules,
    validate,
)

from gateway.api.context import Context
from gateway.api.errors import present
from gateway.api.local import Document, Local
from gateway.api.schema import build
from gateway.oauth.guard import Actor

COMPILED = ("offers", "offer", "merchants", "merchant", "programmes")
ARGUMENTS = {
    "Query.offers": (
        "(first: 3)",
        "(first: $n)",
        '(first: 4, filter: {city: "上海"})',
        '(filter: {category: "出行", affordable: true}, first: 5)',
        "(filter: $filter)",
        "(first: 0)",
        '(after: "nonsense")',
        '(first: 2, filter: {text: "券", kind: null})',
    ),
    "Query.offer": ('(id: "XH-01")', '(id: "none")', "(id: $id)"),
    "Query.merchants": (
        "",
        "(first: 2)",
        '(filter: {city: "上海", role: "issuer"})',
        "(first: 101)",
    ),
    "Query.merchant": ('(id: "M05")', '(id: "none")'),
    "Offer.prices": (
        "",
        '(programmes: ["P-LL", "P-YQ"])',
        "(programmes: $ids)",
        "(programmes: [])",
    ),
}
VARIABLES = {"n": 3, "id": "LL-01", "ids": ["P-LL"], "filter": {"green": True}, "yes": True}
HEAD = (
    'query Q($n: Int! = 2, $id: ID! = "XH-02", $ids: [ID!], $filter: OffersFilter,'
    " $yes: Boolean! = false)"
)


class Writer:
    """Writes random queries over the compiled types; some select what is not compiled."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.schema = build()._schema

    def query(self) -> str:
        roots = self.random.sample(COMPILED, self.random.randint(1, 2))
        if self.random.random() < 0.2:
            roots.append("warnings")
        query = self.schema.query_type
        parts = [self.field(query, name, 0, alias=f"r{i}: ") for i, name in enumerate(roots)]
        if self.random.random() < 0.2:
            parts.append("__typename")
        return f"{HEAD} {{ {' '.join(parts)} }} fragment Price on Price {{ basis points }}"

    def field(self, parent: GraphQLObjectType, name: str, depth: int, alias: str = "") -> str:
        given = self.random.choice(ARGUMENTS.get(f"{parent.name}.{name}", ("",)))
        kind = get_named_type(parent.fields[name].type)
        inner = ""
        if isinstance(kind, GraphQLObjectType):
            inner = f" {{ {self.selection(kind, depth + 1)} }}"
        condition = self.random.choice(("", "", "", " @include(if: $yes)", " @skip(if: $yes)"))
        return f"{alias}{name}{given}{condition if depth else ''}{inner}"

    def selection(self, kind: GraphQLObjectType, depth: int) -> str:
        names = [
            name
            for name, found in kind.fields.items()
            if depth < 6 or not hasattr(get_named_type(found.type), "fields")
        ]
        rare = {"live", "slots"}
        chosen = [
            name
            for name in self.random.sample(names, min(len(names), self.random.randint(1, 5)))
            if name not in rare or self.random.random() < 0.6
        ]
        parts = [
            self.field(kind, name, depth, self.random.choice(("", f"a{number}: ")))
            for number, name in enumerate(chosen)
        ]
        if self.random.random() < 0.25 or not parts:
            parts.append("__typename")
        if kind.name == "Price" and self.random.random() < 0.3:
            parts.append("...Price")
        if self.random.random() < 0.15:
            parts.append(f"... on {kind.name} {{ again: __typename }}")
        return " ".join(parts)


RULES = [
    rule for rule in specified_rules if rule not in (NoUnusedVariablesRule, NoUnusedFragmentsRule)
]
ACTORS = {
    "member": Actor("mbr_demo_01", "member", "member-app", member_id="mbr_demo_01"),
    "finance": Actor("usr_fin_maker", "finance", "staff-console"),
}


async def answered(local, text, gateway, who, variables):
    """The answer's text as the endpoint has it."""
    document = Document(text, parse(text))
    context = Context(gateway.app.state.services, ACTORS[who], "zh", "req_1")
    found = await local.answer(document, None, variables, context)
    await context.end_reads()
    errors = [present(each, locale="zh", request_id="req_1") for each in found.errors]
    return json.dumps([found.data, errors], ensure_ascii=False)


class Watched(Local):
    """Notes which documents a compiled function has answered."""

    compiled: bool = False

    async def _compiled(self, *given):
        found = await super()._compiled(*given)
        self.compiled = found is not None
        return found


@pytest.mark.parametrize("who", ACTORS)
async def test_random_selections_are_answered_alike(gateway, who):
    compiling, plain = Watched(build()), Local(build(), compile=False)
    compiled = plainly = 0
    for seed in range(120):
        text = Writer(seed).query()
        assert validate(build()._schema, parse(text), RULES) == [], text
        for variables in ({}, VARIABLES):
            ours = await answered(compiling, text, gateway, who, variables)
            theirs = await answered(plain, text, gateway, who, variables)
            assert ours == theirs, text
            uncompiled = "live" in text or "slots" in text or not theirs.endswith(", []]")
            assert compiling.compiled or uncompiled, text
            compiled += compiling.compiled
            plainly += not compiling.compiled
    assert compiled > 3 * plainly > 0, (compiled, plainly)
