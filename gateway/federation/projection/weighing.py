"""How large data is as JSON, told before it is written.

An entity stands in an answer wherever something refers to it. A few kilobytes from subgraphs can so
become any amount: lists of one entity, within one another. In memory they share what they hold.
"""

from typing import Any

from gateway.federation.errors import AnswerTooLarge

MAX_BYTES = 64 << 20
"""Of one answer's data, about: keys and strings are counted in characters."""

_VALUE = 8


def weigh(data: Any, most: int = MAX_BYTES) -> int:
    """The size of data in which lists and objects may be shared; raises AnswerTooLarge."""
    known: dict[int, int] = {}
    total = _weigh(data, known)
    if total > most:
        raise AnswerTooLarge
    return total


def _weigh(value: Any, known: dict[int, int]) -> int:
    if isinstance(value, str):
        return len(value) + 3
    if not isinstance(value, dict | list):
        return _VALUE
    found = known.get(id(value))
    if found is None:
        if isinstance(value, dict):
            found = 2 + sum(len(key) + 4 + _weigh(one, known) for key, one in value.items())
        else:
            found = 2 + sum(1 + _weigh(one, known) for one in value)
        known[id(value)] = found
    return found
