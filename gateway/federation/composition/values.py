"""Constants as GraphQL text: numbers in their shortest form, as other composers print them."""

import json
import math
from collections.abc import Mapping
from typing import Any

from gateway.federation.composition.merged import Symbol


def value_text(value: Any) -> str:
    """A Python value as a GraphQL constant."""
    match value:
        case Symbol():
            text = str(value)
        case None | bool() | str():
            text = json.dumps(value, ensure_ascii=False)
        case int():
            text = str(value)
        case float():
            text = number_text(value)
        case Mapping():
            inner = ", ".join(f"{key}: {value_text(item)}" for key, item in value.items())
            text = f"{{{inner}}}"
        case _:
            text = f"[{', '.join(value_text(item) for item in value)}]"
    return text


def number_text(number: float) -> str:
    """The shortest text that reads back as this number: whole numbers whole up to 10^21."""
    if number == 0:
        return "0"
    if not math.isfinite(number):
        return "null"
    text = repr(abs(number))
    mantissa, _, exponent_text = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    if fraction == "0":
        fraction = ""
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent_text or 0)  # where the point stands in whole + fraction
    point -= len(whole + fraction) - len((whole + fraction).lstrip("0"))
    digits = digits.rstrip("0") or "0"
    sign = "-" if number < 0 else ""
    if 0 < point <= 21:
        if len(digits) <= point:
            return sign + digits.ljust(point, "0")
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    head = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
    return f"{sign}{head}e{'+' if point > 0 else '-'}{abs(point - 1)}"
