"""`@context` and `@fromContext`: arguments that the gateway fills in."""

from typing import Any

from gateway.federation.composition.merged import type_text
from gateway.federation.composition.state import State, fed_directive
from gateway.federation.composition.subgraph import Argument, OutputField


def contextual(argument: Argument) -> bool:
    """Whether the gateway gives this argument: it is not in the supergraph."""
    return fed_directive(argument.directives, "fromContext") is not None


def split_context(text: str) -> tuple[str, str]:
    """`$name selection` as (name, selection); both empty where it is not of that form."""
    stripped = text.lstrip()
    if not stripped.startswith("$"):
        return "", ""
    end = 1
    while end < len(stripped) and (stripped[end].isalnum() or stripped[end] == "_"):
        end += 1
    return stripped[1:end], stripped[end:]


def context_arguments(state: State, index: int, source: OutputField) -> list[dict[str, Any]]:
    """What `join__field` says of a field's contextual arguments."""
    found: list[dict[str, Any]] = []
    for argument in source.arguments.values():
        applied = fed_directive(argument.directives, "fromContext")
        if applied is None:
            continue
        name, selection = split_context(str(applied.arguments.get("field") or ""))
        found.append(
            {
                "context": f"{state.name(index)}__{name}",
                "name": argument.name,
                "type": type_text(argument.type),
                "selection": selection,
            }
        )
    return found
