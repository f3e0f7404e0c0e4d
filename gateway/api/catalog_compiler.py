"""Catalog queries compiled: from the rooms' rows to the answer in one expression, per operation.

An operation that selects nothing but what the tables below know becomes one Python function, which
builds the answer's dicts as graphql-core would, and a list of what has to be read for it. Whatever
else is selected (live prices, other types, directives of other kinds) makes the whole operation
one for Strawberry, whose answers are the measure of these in the tests. Pure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphql import ArgumentNode, FieldNode, NameNode

from gateway.federation.operation import Field, Fragment, Operation, Selection

_MOST = 2**31


class NotCompiled(Exception):
    """Strawberry answers this one: it selects, or would answer, what is not compiled."""


@dataclass(frozen=True, slots=True)
class Root:
    """A root field and its arguments."""

    name: str
    node: FieldNode


@dataclass(slots=True)
class Needs:
    """What has to be read; each `prices` field with its arguments is another reading."""

    roots: list[Root] = field(default_factory=list)
    prices: list[FieldNode] = field(default_factory=list)
    worded: list[bool] = field(default_factory=list)  # of each: whether a formula is asked for
    programmes: bool = False
    merchants_of_offers: bool = False
    issuers: bool = False
    wallets: bool = False


@dataclass(slots=True)
class Rows:
    """What was read: roots by number, prices by number and offer, the others by id."""

    roots: list[Any] = field(default_factory=list)
    prices: list[Mapping[str, Any]] = field(default_factory=list)
    programmes: Mapping[str, Any] = field(default_factory=dict)
    merchants: Mapping[str, Any] = field(default_factory=dict)
    balances: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Compiled:
    """An operation's function, and what it needs."""

    needs: Needs
    project: Callable[[Rows], dict[str, Any]] = field(repr=False)
    source: str = ""


# -- what a plain field is read from ---------------------------------------------------------------

_OFFER = {
    "id": "{o}.id",
    "nameZh": "{o}.name_zh",
    "nameEn": "{o}.name_en",
    "kind": "{o}.kind",
    "category": "{o}.category",
    "cashFen": "{o}.cash_fen",
    "pricing": "{o}.pricing",
    "green": "{o}.green",
    "highValue": "{o}.high_value",
    "guaranteed": "{o}.guaranteed",
    "maxOffsetPct": "{o}.max_offset_pct",
    "partPayment": "{o}.part_payment",
    "suspended": "({o}.suspended is not None)",
    "tags": "texts({o}.tags)",
    "attributes": "dict({o}.attributes)",
}
_MERCHANT = {
    "id": "{o}.id",
    "slug": "{o}.slug",
    "nameZh": "{o}.name_zh",
    "nameEn": "{o}.name_en",
    "category": "{o}.category",
    "cities": "texts({o}.cities)",
    "market": "{o}.market",
    "roles": "sorted({o}.roles)",
    "paused": "{o}.paused",
}
_PROGRAMME = {
    "id": "{o}.id",
    "nameZh": "{o}.name_zh",
    "unitZh": "{o}.unit_zh",
    "validity": '("LIFETIME" if {o}.months is None else "MONTHS")',
    "validityMonths": "{o}.months",
    "earn": "dict({o}.earn)",
    "disclosure": "dict({o}.disclosure)",
    "policyVersion": "{o}.policy_version",
}
_PRICE = {
    "points": "{o}.points",
    "basis": "{o}.basis",
    "formula": "{o}.formula",
    "own": "{o}.own",
    "promotion": "({o}.promotion_id or None)",
    "regularPoints": "{o}.regular_points",
}
_RATE = {"num": "small({o}.num)", "den": "small({o}.den)"}
_GUARANTEE = {
    name: f'text({{o}}.get("{name}"))' for name in ("parity", "cancel", "compensation", "contact")
}


def texts(found: Sequence[Any]) -> list[str]:
    """A list of texts as GraphQL has it; what is none is graphql-core's to word."""
    for each in found:
        if type(each) is not str:
            raise NotCompiled
    return list(found)


def text(found: Any) -> str | None:
    """A text or null, for the same reason."""
    if found is not None and type(found) is not str:
        raise NotCompiled
    return found


def small(found: int) -> int:
    """An Int of GraphQL has 32 bits."""
    if not -_MOST <= found < _MOST:
        raise NotCompiled
    return found


def compiled(operation: Operation) -> Compiled | None:
    """An operation's function; None where something is selected that only Strawberry answers."""
    if operation.kind != "query":
        return None
    writer = _Writer()
    try:
        return writer.query(operation.selections)
    except NotCompiled:
        return None


@dataclass(slots=True)
class _Writer:
    """Writes the function: maps of shared objects first, inner ones before outer ones."""

    needs: Needs = field(default_factory=Needs)
    lines: list[str] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)
    depth: int = 0

    def query(self, selections: Sequence[Selection]) -> Compiled:
        parts = [f"{each.key!r}: {self.root(each)}" for each in fields(selections)]
        body = [*self.lines, f"return {{{', '.join(parts)}}}"]
        source = "def project(rows):\n" + "".join(f"    {line}\n" for line in body)
        scope: dict[str, Any] = {"texts": texts, "text": text, "small": small}
        exec(compile(source, "<catalog query>", "exec"), scope)  # noqa: S102 - Our own words only.
        return Compiled(self.needs, scope["project"], source)

    def root(self, asked: Field) -> str:
        if asked.name == "__typename":
            return '"Query"'
        if asked.name == "warnings":
            return "[]"  # Only live prices warn, and those are not compiled.
        if asked.name not in _ROOTS:
            raise NotCompiled
        number = len(self.needs.roots)
        self.needs.roots.append(Root(asked.name, _node(asked)))
        here = f"rows.roots[{number}]"
        if asked.name in ("offers", "merchants"):
            return self.connection(asked, here)
        if asked.name == "programmes":
            self.needs.programmes = True
            one = self.programme(asked.selections, "o")
            return f"[{one} for o in {here}]"
        write = self.offer if asked.name == "offer" else self.merchant
        return (
            f"(None if {here} is None else [{write(asked.selections, 'o')} for o in ({here},)][0])"
        )

    def connection(self, asked: Field, here: str) -> str:
        offers = asked.name == "offers"
        kind = "Offer" if offers else "Merchant"
        write = self.offer if offers else self.merchant

        def edge(each: Field) -> str:
            if each.name == "node":
                return write(each.selections, "o")
            return {"cursor": "c", "__typename": repr(f"{kind}Edge")}[each.name]

        def part(each: Field) -> str:
            if each.name == "edges":
                one = _object(each.selections, edge)
                return f"[{one} for o, c in zip({here}.rows, {here}.cursors)]"
            if each.name == "pageInfo":
                return _object(each.selections, lambda one: info[one.name])
            if each.name == "warnings":
                return "[]"
            return {"__typename": repr(f"{kind}Connection")}[each.name]

        info = {
            "hasNextPage": f"{here}.more",
            "endCursor": f"({here}.cursors[-1] if {here}.cursors else None)",
            "__typename": "'PageInfo'",
        }
        return _object(asked.selections, part)

    def offer(self, selections: Sequence[Selection], o: str) -> str:
        def part(each: Field) -> str:
            if each.name == "merchant":
                self.needs.merchants_of_offers = True
                return f"{self.shared('merchant', each.selections)}[{o}.merchant_id]"
            if each.name == "prices":
                return self.prices(each, o)
            if each.name == "guarantee":
                facts = _object(
                    each.selections, lambda one: plain("Guarantee", _GUARANTEE, one, "g")
                )
                return f"[{facts} for g in ({o}.guarantee,)][0]"
            if each.name == "parity":
                ok = {"ok": f"({o}.suspended is None)", "__typename": "'Parity'"}
                return _object(each.selections, lambda one: ok[one.name])
            return plain("Offer", _OFFER, each, o)

        return _object(selections, part)

    def prices(self, asked: Field, o: str) -> str:
        number = len(self.needs.prices)
        self.needs.prices.append(_node(asked))
        self.needs.worded.append(any(each.name == "formula" for each in fields(asked.selections)))
        self.needs.programmes = True

        def part(each: Field) -> str:
            if each.name == "programme":
                return f"{self.shared('programme', each.selections)}[p.programme_id]"
            if each.name == "rate":
                return _rate(each.selections, "p.rate")
            if each.name == "affordable":
                self.needs.wallets = True
                has = "rows.balances.get(p.programme_id, -1) >= p.points"
                return f"(None if rows.balances is None else {has})"
            return plain("Price", _PRICE, each, "p")

        one = _object(asked.selections, part)
        return f"[{one} for p in rows.prices[{number}].get({o}.id, ())]"

    def merchant(self, selections: Sequence[Selection], o: str) -> str:
        def part(each: Field) -> str:
            if each.name == "programme":
                self.needs.programmes = True
                return f"{self.shared('issued', each.selections)}.get({o}.id)"
            return plain("Merchant", _MERCHANT, each, o)

        return _object(selections, part)

    def programme(self, selections: Sequence[Selection], o: str) -> str:
        def part(each: Field) -> str:
            if each.name == "issuer":
                self.needs.issuers = True
                return f"{self.shared('merchant', each.selections)}[{o}.issuer]"
            if each.name == "value":
                return _rate(each.selections, f"{o}.rate")
            return plain("Programme", _PROGRAMME, each, o)

        return _object(selections, part)

    def shared(self, kind: str, selections: Sequence[Selection]) -> str:
        """The name of a map of objects that many rows show: each is made once an answer."""
        if kind == "merchant":
            made = f"{{o.id: {self.merchant(selections, 'o')} for o in rows.merchants.values()}}"
        else:
            key = "o.id" if kind == "programme" else "o.issuer"
            one = self.programme(selections, "o")
            made = f"{{{key}: {one} for o in rows.programmes.values()}}"
        if made not in self.known:
            self.known[made] = f"shared_{len(self.known)}"
            self.lines.append(f"{self.known[made]} = {made}")
        return self.known[made]


_ROOTS = frozenset({"offers", "offer", "merchants", "merchant", "programmes"})


def fields(selections: Sequence[Selection]) -> list[Field]:
    """The fields of a concrete type's selections; those of fragments on it are among them."""
    found: list[Field] = []
    for each in selections:
        if isinstance(each, Fragment):
            raise NotCompiled
        found.append(each)
    return found


def _node(asked: Field) -> FieldNode:
    """A field as graphql-core reads arguments of."""
    given = [
        ArgumentNode(name=NameNode(value=name), value=value) for name, value in asked.arguments
    ]
    return FieldNode(name=NameNode(value=asked.name), arguments=tuple(given), directives=())


def plain(kind: str, known: Mapping[str, str], asked: Field, o: str) -> str:
    if asked.name == "__typename":
        return repr(kind)
    if asked.name not in known:
        raise NotCompiled
    return known[asked.name].format(o=o)


def _rate(selections: Sequence[Selection], of: str) -> str:
    return _object(selections, lambda each: plain("Rate", _RATE, each, of))


def _object(selections: Sequence[Selection], part: Callable[[Field], str]) -> str:
    parts = [f"{each.key!r}: {part(each)}" for each in fields(selections)]
    return f"{{{', '.join(parts)}}}"
