"""`warnings` with the merchants whose subgraphs did not answer.

Our own schema resolves `warnings` before any merchant is asked: a merchant's part of a plan often
waits for ours. So they are written again once it is known who failed.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from graphql import DocumentNode, GraphQLSchema

from gateway.api.context import Warning as Noted
from gateway.federation.normalise import normalise
from gateway.federation.operation import Field, Selection

_PLACES = frozenset({"Query", "OfferConnection"})


def rewarned(
    data: bytes,
    *,
    schema: GraphQLSchema,
    document: DocumentNode,
    name: str | None,
    variables: Mapping[str, Any],
    warnings: Sequence[Noted],
) -> bytes:
    """An answer whose `warnings` are these, wherever a query has asked for them."""
    operation = normalise(schema, document, name, variables)
    if operation.kind != "query":
        return data
    found = json.loads(data)  # Numbers of any size, as a partner may have said them.
    if not _filled(operation.selections, found, warnings):
        return data
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()


def _filled(selections: Sequence[Selection], found: Any, warnings: Sequence[Noted]) -> bool:
    """Whether there was anything to write."""
    if isinstance(found, list):
        each_filled = [_filled(selections, each, warnings) for each in found]
        return any(each_filled)
    changed = False
    for each in selections if isinstance(found, dict) else ():
        if not isinstance(each, Field) or each.key not in found:
            continue
        if each.name == "warnings" and each.parent in _PLACES:
            found[each.key] = [_shown(each, warning) for warning in warnings]
            changed = True
        elif each.selections:
            changed = _filled(each.selections, found[each.key], warnings) or changed
    return changed


def _shown(asked: Field, warning: Noted) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "__typename": "Warning",
        "merchant": warning.merchant,
        "code": warning.code,
    }
    stale = warning.stale_at.isoformat() if warning.stale_at else None
    facts |= {"message": warning.message, "staleAt": stale}
    return {each.key: facts[each.name] for each in asked.selections if isinstance(each, Field)}
