"""A plan for people: what an operation would cost over a supergraph."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphql import GraphQLError

from gateway.federation.engine import too_expensive
from gateway.federation.errors import NoPlan, OperationTooLarge
from gateway.federation.limits import Limits, TooExpensive, check_shape, read
from gateway.federation.normalise import normalise
from gateway.federation.planner import Planner
from gateway.federation.printing import print_plan
from gateway.federation.supergraph import Supergraph
from gateway.federation.validation import validated


class Unplannable(Exception):
    """The operation is not valid over the supergraph, or no plan answers it."""


@dataclass(frozen=True, slots=True)
class Explained:
    """A plan as text, with its counts."""

    text: str
    fetches: int
    depth: int
    services: Mapping[str, int]


def explain(
    sdl: str,
    text: str,
    variables: Mapping[str, Any],
    *,
    operation: str | None = None,
    labels: frozenset[str] = frozenset(),
) -> Explained:
    """Plan an operation.

    Raises:
        InvalidSupergraph: The SDL is none.
        Unplannable: The operation is not valid, too large, or cannot be answered.
    """
    supergraph = Supergraph.parse(sdl)
    schema = supergraph.api_schema
    try:
        document = read(text, Limits())
        check_shape(document, schema=schema, limits=Limits())
        if errors := validated(schema, document):
            raise Unplannable("\n".join(error.message for error in errors))
        plan = Planner(supergraph).plan(normalise(schema, document, operation, variables), labels)
    except TooExpensive as error:
        raise Unplannable(str(too_expensive(error))) from error
    except GraphQLError as error:
        raise Unplannable(error.message) from error
    except (NoPlan, OperationTooLarge) as error:
        raise Unplannable(str(error)) from error
    services = Counter(fetch.service for fetch in plan.fetches)
    return Explained(print_plan(plan), len(plan.fetches), plan.depth, services)
