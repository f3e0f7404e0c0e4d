"""Words for people: a message with its numbers, names for ids, ¥ for fen, Shanghai time. Pure."""

import contextlib
import re
from collections.abc import Mapping
from datetime import datetime

from gateway.errors import GatewayError
from gateway.values import SHANGHAI, yuan

UNREAD: Mapping[str, str] = {
    "zh": "{merchant}暂时无响应,相关内容暂缺",
    "en": "{merchant} does not respond; its part is missing for now",
}
"""What is said of a partner that did not answer a reading: nothing was to be charged."""

_NAME = re.compile(r"\{(\w+)\}")


def say(error: GatewayError, locale: str, names: Mapping[str, str]) -> str:
    """An error's message, its numbers filled in."""
    return fill(error.en if locale == "en" else error.zh, error.told(locale), names)


def next_step(error: GatewayError, locale: str, names: Mapping[str, str]) -> str | None:
    template = error.next_en if locale == "en" else error.next_zh
    return fill(template, error.context, names) or None


def fill(template: str, facts: Mapping[str, object], names: Mapping[str, str]) -> str:
    """Put the context into a message: names for ids, ¥ for fen, Shanghai time for instants."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in names:
            return names[name]
        if name in facts:
            return _shown(facts[name])
        fen = facts.get(f"{name}_fen")
        return yuan(fen) if isinstance(fen, int) else "–"

    return _NAME.sub(value, template)


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    if isinstance(value, str) and len(value) > 16 and value[10:11] == "T":
        with contextlib.suppress(ValueError):
            return f"{datetime.fromisoformat(value).astimezone(SHANGHAI):%Y-%m-%d %H:%M}"
    return "–" if value is None else str(value)


def camel(name: str) -> str:
    """`bill_fen` as `billFen`."""
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)
