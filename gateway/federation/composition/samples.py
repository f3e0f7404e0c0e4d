"""Sample values for the arguments that an example query must give."""

from gateway.federation.composition.merged import Merged, MergedArgument, MergedField, base_name
from gateway.federation.composition.subgraph import Kind

_SAMPLES = {"Int": "0", "Float": "3.14", "Boolean": "true", "ID": '"<any id>"'}
_MAX_DEPTH = 3


def sample_arguments(merged: Merged, field: MergedField) -> str:
    """The required arguments of a field with values, in parentheses."""
    given = [
        f"{argument.name}: {_sample(merged, argument.type, 0)}"
        for argument in field.arguments.values()
        if _required(argument)
    ]
    return f"({', '.join(given)})" if given else ""


def _required(argument: MergedArgument) -> bool:
    return argument.type.endswith("!") and not argument.has_default


def _sample(merged: Merged, wanted: str, depth: int) -> str:
    """A value of an input type."""
    if wanted.startswith("["):
        return "[]"
    definition = merged.types.get(base_name(wanted))
    if definition is None or definition.kind not in {Kind.ENUM, Kind.INPUT}:
        return _SAMPLES.get(base_name(wanted), '"<some value>"')
    if definition.kind is Kind.ENUM:
        return next(iter(definition.values), "null")
    if depth > _MAX_DEPTH:
        return "{}"
    inner = (
        f"{field.name}: {_sample(merged, field.type, depth + 1)}"
        for field in definition.input_fields.values()
        if _required(field)
    )
    return "{" + ", ".join(inner) + "}"
