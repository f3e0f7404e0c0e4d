"""Our schema and the merchants' put together, and what that changes for its users. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from graphql import (
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    find_breaking_changes,
    parse,
    validate,
)

from gateway.federation.composition import CompositionFailed as Uncomposable
from gateway.federation.composition import compose
from gateway.federation.composition.loading import load
from gateway.federation.errors import CompositionError, InvalidSupergraph
from gateway.federation.supergraph import Supergraph
from gateway.subgraphs import governance, worded
from gateway.subgraphs.model import (
    OURS,
    Broken,
    CompositionFailed,
    Impact,
    Operation,
    Prefix,
    SchemaBreaking,
    Submitted,
    Violation,
)

OUR_URL = "local:coalition"  # Never asked over HTTP.
_SHOWN = 50
_NAME = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Ours:
    """Our own schema: its federation SDL, and the API schema."""

    sdl: str
    schema: GraphQLSchema = field(repr=False)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is found about a subgraph before it is published; `sdl` only if it composes.

    `text` is the subgraph's own, if the errors are about it alone.
    """

    violations: Sequence[Violation] = ()
    errors: Sequence[CompositionError] = ()
    hints: Sequence[str] = ()
    impact: Impact = Impact()
    sdl: str | None = None
    text: str = field(default="", repr=False)

    def require(self, *, breaking: bool) -> str:
        """The composed graph, if it may be published.

        Args:
            breaking: That it breaks something is allowed.

        Raises:
            CompositionFailed: It breaks a rule, or does not compose.
            SchemaBreaking: It breaks the API or a saved operation.
        """
        if self.violations or self.errors or self.sdl is None:
            raise CompositionFailed(field=("sdl",), errors=self.told())
        if self.impact.breaking and not breaking:
            raise SchemaBreaking(
                field=("sdl",),
                changes=len(self.impact.changes),
                breaking=list(self.impact.changes[:_SHOWN]),
                operations=[_told(each) for each in self.impact.operations[:_SHOWN]],
                partners=self.impact.partners,
            )
        return self.sdl

    def told(self) -> list[dict[str, object]]:
        """Every error with its code: the rules broken first, then what composition says."""
        rules: list[dict[str, object]] = [
            {"code": each.code, "at": each.coordinate, "zh": each.zh, "en": each.en}
            for each in self.violations
        ]
        composed = [worded.told(each, self.text) for each in self.errors]
        return [*rules, *composed][:_SHOWN]


def judge(
    submitted: Submitted,
    *,
    prefix: Prefix,
    ours: Ours,
    others: Iterable[Submitted],
    before: GraphQLSchema,
    operations: Iterable[Operation],
) -> Verdict:
    """Look at a subgraph as it would be published.

    Args:
        others: The subgraphs of the other merchants that are live.
        before: The API schema that is live.
        operations: What clients use.
    """
    if violations := governance.measure(submitted.sdl):
        return Verdict(violations=violations)
    read, errors = load(submitted.merchant_id, submitted.url, submitted.sdl)
    if read is not None:
        violations = governance.judge(read, prefix=prefix, ours=ours.schema)
    if errors or violations or read is None:
        return Verdict(violations=violations, errors=errors, text=submitted.sdl)
    made = put_together(ours, [*others, submitted])
    if isinstance(made, Verdict):
        return made
    sdl, hints, after = made
    return Verdict(hints=hints, impact=impact(before, after, operations), sdl=sdl)


def judge_without(
    ours: Ours,
    *,
    others: Iterable[Submitted],
    before: GraphQLSchema,
    operations: Iterable[Operation],
) -> Verdict:
    """Look at the graph as it would be without one of its subgraphs.

    Args:
        others: The subgraphs that stay.
        before, operations: As for `judge`.
    """
    made = put_together(ours, others)
    if isinstance(made, Verdict):
        return made
    sdl, hints, after = made
    return Verdict(hints=hints, impact=impact(before, after, operations), sdl=sdl)


def put_together(
    ours: Ours, members: Iterable[Submitted]
) -> tuple[str, Sequence[str], GraphQLSchema] | Verdict:
    """Compose our schema with merchants'.

    Returns:
        The supergraph's SDL, hints, and its API schema; or what is wrong.
    """
    given = [(each.merchant_id, each.url, each.sdl) for each in members]
    try:
        composed = compose([(OURS, OUR_URL, ours.sdl), *sorted(given)])
        schema = Supergraph.parse(composed.sdl).api_schema
    except Uncomposable as found:
        return Verdict(errors=found.errors)
    except InvalidSupergraph as error:
        return Verdict(errors=[CompositionError("INTERNAL", str(error))])
    return composed.sdl, [f"{each.code}: {each.message}" for each in composed.hints], schema


def impact(before: GraphQLSchema, after: GraphQLSchema, operations: Iterable[Operation]) -> Impact:
    """What an API schema takes away from those who use the one before it."""
    changes = [each.description for each in find_breaking_changes(before, after)]
    if not changes:
        return Impact()
    broken, names = [], set(_NAME.findall(" ".join(changes)))
    for each in operations:
        if names.isdisjoint(_NAME.findall(each.text)):
            continue  # It speaks of nothing that has changed.
        if (error := _invalid(after, each.text)) and not _invalid(before, each.text):
            name = _name(each.text)
            broken.append(Broken(each.hash, each.client_id, each.merchant_id, name, error))
    return Impact(changes, broken)


def _invalid(schema: GraphQLSchema, text: str) -> str | None:
    """Why a document is not valid, first; None if it is."""
    try:
        errors = validate(schema, parse(text), max_errors=1)
    except GraphQLError as error:
        return error.message
    return errors[0].message if errors else None


def _name(text: str) -> str:
    names = [
        definition.name.value
        for definition in parse(text).definitions
        if isinstance(definition, OperationDefinitionNode) and definition.name
    ]
    return ", ".join(names)


def _told(each: Broken) -> dict[str, object]:
    return {"hash": each.hash, "name": each.name, "client": each.client_id, "error": each.error}
