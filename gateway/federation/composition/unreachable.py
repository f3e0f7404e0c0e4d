"""Why a field cannot be had: for each subgraph an object may be seen in, what is in the way."""

from collections.abc import Iterable

from gateway.federation.composition.reachability import Reachability
from gateway.federation.graph import Node

MAX_REASONS = 20


def why_not(reach: Reachability, nodes: Iterable[Node], type_name: str, field: str) -> str:
    """For each node: why not there, and why no call leads to a subgraph that has the field."""
    parts = []
    for node in sorted(nodes, key=lambda one: (one.graph, one.number)):
        reasons = [_here(reach, one, type_name, field) for one in reach.closure(node)]
        reasons += _moves(reach, node, type_name, field)
        parts.append(_listed(node.graph, list(dict.fromkeys(reasons))))
    return "\n".join(dict.fromkeys(parts))


def why_untyped(reach: Reachability, nodes: Iterable[Node]) -> str:
    """For interface objects: why no subgraph can tell which object it is."""
    parts = []
    for node in sorted(nodes, key=lambda one: (one.graph, one.number)):
        reasons = [
            "no subgraph can be reached to resolve the implementation type of @interfaceObject"
            f' type "{node.name}".'
        ]
        reasons += _moves(reach, node, node.name, None)
        parts.append(_listed(node.graph, reasons))
    return "\n".join(dict.fromkeys(parts))


def _listed(graph: str, reasons: list[str]) -> str:
    reasons = reasons[:MAX_REASONS]
    if len(reasons) == 1:
        return f'- from subgraph "{graph}": {reasons[0]}'
    return "\n".join([f'- from subgraph "{graph}":', *(f"  - {reason}" for reason in reasons)])


def _here(reach: Reachability, node: Node, type_name: str, field: str) -> str:
    """Why a subgraph that has the object does not resolve the field."""
    where = f"{type_name}.{field}"
    known = node.here.fields.get(field)
    if known is None:
        return f'cannot find field "{where}".'
    if known.external or known.always_replaced:
        return f'field "{where}" is not resolvable because marked @external.'
    if (node.graph, node.name, field) in reach.graph.taken:
        return f'field "{where}" is overridden by another subgraph.'
    if reach.selects(node, field):
        return (
            f'@require condition on field "{where}" can be satisfied but there is no usable key on'
            f' "{type_name}" in subgraph "{node.graph}" to come back by.'
        )
    return f'cannot satisfy @require conditions on field "{where}".'


def _moves(reach: Reachability, node: Node, type_name: str, field: str | None) -> list[str]:
    """Why no entity call leads to the subgraphs that have the type (and the field)."""
    reached = set(reach.closure(node))
    reasons: list[str] = []
    graphs = {one.graph for one in reached}
    for target in reach.graph.targets(node, node.types):
        if target in reached or target.graph == node.graph:
            continue
        reasons += [
            f'cannot move to subgraph "{target.graph}" using @key(fields: "{key.text}") of'
            f' "{target.name}", the key field(s) cannot be resolved from subgraph "{node.graph}".'
            for key in target.here.keys
            if key.resolvable
        ]
    for graph, view in reach.graph.supergraph.views.items():
        here = view.get(type_name)
        if field is None or here is None or graph in graphs or field not in here.fields:
            continue
        if not here.keys:
            reasons.append(
                f'cannot move to subgraph "{graph}", which has field "{type_name}.{field}", because'
                f' type "{type_name}" has no @key defined in subgraph "{graph}".'
            )
        elif not any(key.resolvable for key in here.keys):
            reasons.append(
                f'cannot move to subgraph "{graph}", which has field "{type_name}.{field}", because'
                f' none of the @key defined on type "{type_name}" in subgraph "{graph}" are'
                ' resolvable (they are all declared with their "resolvable" argument set to false).'
            )
    return reasons
