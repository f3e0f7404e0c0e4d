"""Types and defaults of one element over subgraphs: output types widen, input types narrow."""

from collections.abc import Mapping
from typing import Any

from gateway.federation.composition.merged import (
    MergedArgument,
    Symbol,
    base_name,
    default_value,
    element,
    frozen,
    type_text,
)
from gateway.federation.composition.state import State, who_says_what
from gateway.federation.composition.subgraph import Argument, Kind
from gateway.federation.composition.values import value_text


def is_subtype(state: State, sub: str, supertype: str) -> bool:
    """Whether a type is another or a subtype of it: non-null, in lists, implementing, a member."""
    while sub != supertype:
        if sub.endswith("!"):
            sub = sub[:-1]
            supertype = supertype.removesuffix("!")
        elif supertype.endswith("!"):
            return False
        elif sub.startswith("[") and supertype.startswith("["):
            sub, supertype = sub[1:-1], supertype[1:-1]
        else:
            return sub in state.subtypes.get(supertype, ())
    return True


def merge_type(
    state: State, says: Mapping[int, str], where: str, what: str, *, output: bool
) -> tuple[str, bool]:
    """The type of the merged element and whether all subgraphs say the same."""
    texts = list(dict.fromkeys(says.values()))
    merged = texts[0]
    for text in texts[1:]:
        wider, narrower = (text, merged) if output else (merged, text)
        if is_subtype(state, narrower, wider):
            merged = text
        elif not is_subtype(state, wider, narrower):
            code = "FIELD_ARGUMENT_TYPE_MISMATCH" if what == "argument" else "FIELD_TYPE_MISMATCH"
            words = who_says_what(state, {i: f'it has type "{said}"' for i, said in says.items()})
            state.error(
                code, f"Subgraphs disagree on the type of {what} {element(where)}: {words}", says
            )
            return texts[0], False
    if len(texts) > 1:
        _hint_compatible(state, says, where, what, merged)
    base = base_name(merged)
    definition = state.merged.types.get(base)
    if definition is not None and definition.kind is Kind.ENUM:
        state.used_enum(base, where, output=output)
    return merged, len(texts) == 1


def _hint_compatible(
    state: State, says: Mapping[int, str], where: str, what: str, merged: str
) -> None:
    code = (
        "INCONSISTENT_BUT_COMPATIBLE_ARGUMENT_TYPE"
        if what == "argument"
        else "INCONSISTENT_BUT_COMPATIBLE_FIELD_TYPE"
    )
    words = who_says_what(state, {i: f'it has type "{said}"' for i, said in says.items()})
    state.hint(code, f"The supergraph gives {what} {element(where)} type {merged!r}: {words}", says)


def merge_default(
    state: State, sources: Mapping[int, Argument], into: MergedArgument, where: str, code: str
) -> None:
    """A default all subgraphs share; none where some have none; different ones are an error."""
    values = {index: default_value(source.default) for index, source in sources.items()}
    given = {index: value for index, (value, there) in values.items() if there}
    if not given:
        return
    distinct = {frozen(value) for value in given.values()}
    words = {
        i: f"its default is {value_text(value)}" if there else "it has no default"
        for i, (value, there) in values.items()
    }
    if len(distinct) > 1:
        message = f"Subgraphs disagree on the default of {element(where)}: "
        state.error(code, message + who_says_what(state, words), sources)
    elif len(given) < len(values):
        state.hint(
            "INCONSISTENT_DEFAULT_VALUE_PRESENCE",
            f"The supergraph gives {element(where)} no default: " + who_says_what(state, words),
            sources,
        )
    else:
        into.default, into.has_default = next(iter(given.values())), True
        definition = state.merged.types.get(base_name(into.type))
        if definition is not None and definition.kind is Kind.SCALAR:
            into.default = _plain(into.default)


def _plain(value: Any) -> Any:
    """A value of a custom scalar: names in it are texts, for it has no enum to be values of."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Symbol) else value


def type_texts(sources: Mapping[int, Argument]) -> dict[int, str]:
    """The types of arguments or input fields as texts."""
    return {index: type_text(source.type) for index, source in sources.items()}


def required(source: Argument) -> bool:
    """Whether a value must be given."""
    return source.type.kind == "non_null_type" and source.default is None
